//! How the agent behaves as a process.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Set in the environment of a process that ignores SIGTERM already.
const IGNORING: &str = "TENURE_ECHO_IGNORES_TERM";

/// What the options say.
#[derive(Clone, Default)]
pub(crate) struct Manners {
    ignore_term: bool,
    ignore_eof: bool,
    pub(crate) no_handshake: bool,
    pub(crate) fail_handshake: bool,
    pub(crate) no_fork: bool,
    children: Vec<Child>,
    slow_exit: Duration,
}

/// A process that the agent leaves behind.
#[derive(Clone, Copy)]
pub(crate) enum Child {
    Grandchild,
    Escaper,
    BareEscaper,
}

impl Manners {
    pub(crate) fn parse(args: &[String]) -> Result<Manners, String> {
        let mut manners = Manners::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--ignore-term" => manners.ignore_term = true,
                "--ignore-eof" => manners.ignore_eof = true,
                "--no-handshake" => manners.no_handshake = true,
                "--fail-handshake" => manners.fail_handshake = true,
                "--no-fork" => manners.no_fork = true,
                "--grandchild" => manners.children.push(Child::Grandchild),
                "--escaper" => manners.children.push(Child::Escaper),
                "--bare-escaper" => manners.children.push(Child::BareEscaper),
                "--slow-exit" => {
                    let text = args.next().ok_or("--slow-exit needs a duration")?;
                    manners.slow_exit = duration(text)?;
                }
                other => return Err(format!("there is no option `{other}`")),
            }
        }
        Ok(manners)
    }

    /// Starts what the options ask for.
    pub(crate) fn settle_in(&self) -> io::Result<()> {
        if self.ignore_term && std::env::var_os(IGNORING).is_none() {
            // What a shell ignores stays ignored through exec: no handler of our own is needed.
            let again = std::env::current_exe()?;
            let error = Command::new("sh")
                .args(["-c", "trap '' TERM; exec \"$0\" \"$@\""])
                .arg(again)
                .args(std::env::args().skip(1))
                .env(IGNORING, "1")
                .exec();
            return Err(error);
        }
        self.children.iter().try_for_each(|child| child.start())
    }

    /// After end-of-file.
    pub(crate) fn stay(&self) {
        std::thread::sleep(self.slow_exit);
        if self.ignore_eof {
            loop {
                std::thread::park();
            }
        }
    }
}

impl Child {
    pub(crate) fn start(self) -> io::Result<()> {
        let mut command = match self {
            Child::Grandchild => {
                // No shell: some stay in between, and would be one process more.
                let mut command = Command::new("sleep");
                command.arg("1000");
                command
            }
            // The shell between ends at once, and so does `setsid`'s: nobody is left whose child it could be.
            Child::Escaper => shell("setsid sh -c 'sleep 1000 & exit 0' & exit 0"),
            Child::BareEscaper => {
                let mut command = Command::new("env");
                command.args([
                    "-i",
                    "/bin/sh",
                    "-c",
                    "PATH=/usr/bin:/bin; setsid sh -c 'sleep 1000 & exit 0' & exit 0",
                ]);
                command
            }
        };
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        if matches!(self, Child::Escaper | Child::BareEscaper) {
            child.wait()?;
        }
        Ok(())
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// `500ms` or `2s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as 500ms or 2s");
    let (digits, unit) = match text.strip_suffix("ms") {
        Some(digits) => (digits, Duration::from_millis(1)),
        None => (text.strip_suffix('s').ok_or_else(wrong)?, Duration::from_secs(1)),
    };
    digits.parse::<u32>().map(|count| unit * count).map_err(|_| wrong())
}
