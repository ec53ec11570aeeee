//! An adapter on the files of a run directory, with a pump in the shim's place.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a tree may take to die.
const PATIENCE: Duration = Duration::from_secs(20);

/// The adapter's process tree, and the pump of its stdin. All of it ends with this value.
pub struct Pumped {
    /// The adapter, or what brings it.
    pub child: Child,
    stop: Arc<AtomicBool>,
    pump: Option<std::thread::JoinHandle<()>>,
}

impl Pumped {
    /// Starts it in a process group of its own.
    pub fn start(mut command: Command, dir: &Path) -> Pumped {
        let file = |name: &str| std::fs::File::create(dir.join(name)).unwrap();
        command.stdin(Stdio::piped()).stdout(file("stdout")).stderr(file("stderr")).process_group(0);
        let mut child = command.spawn().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (mut into, dir, stopped) = (child.stdin.take().unwrap(), dir.to_owned(), Arc::clone(&stop));
        let pump = std::thread::spawn(move || {
            let mut pumped = 0;
            while !stopped.load(Ordering::Relaxed) {
                let mut all = Vec::new();
                if let Ok(mut file) = std::fs::File::open(dir.join("stdin")) {
                    file.read_to_end(&mut all).unwrap();
                }
                let whole = all.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                if whole > pumped && into.write_all(&all[pumped..whole]).is_err() {
                    return;
                }
                pumped = pumped.max(whole);
                if whole == all.len() && dir.join("stdin.eof").exists() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Pumped { child, stop, pump: Some(pump) }
    }
}

impl Drop for Pumped {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(pump) = self.pump.take() {
            let _ = pump.join();
        }
        // The CLI outlives `npm exec` for some milliseconds, and writes to its home: the group must be empty.
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let deadline = Instant::now() + PATIENCE;
        while nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).is_ok() {
            let _ = self.child.try_wait();
            assert!(Instant::now() < deadline, "processes of the group {group} do not die");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
