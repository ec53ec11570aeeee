//! The task around the protocol: it reads and writes the files, answers the agent, and tells what it has come to.

use crate::acp::message::{Line, Outgoing, response};
use crate::acp::nonsense::Nonsense;
use crate::acp::session::{At, Replay};
use crate::acp::stdio::{Heard, LONGEST_LINE_BYTES, Stdin, Stdout};
use crate::acp::watch::Watch;
use crate::acp::{DriverConfig, Handshake, OutputMode, Progress, TurnState, Wanted, calls, outcome};
use crate::model::{Failure, Outcome, Time};
use crate::os;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often files are looked at where nothing tells that they changed, and where something does.
const UNWATCHED: Duration = Duration::from_millis(250);
const WATCHED: Duration = Duration::from_secs(5);
/// A process that the agent waits for is looked for this often: first, and at last.
const WAIT_FIRST: Duration = Duration::from_millis(50);
const WAIT_LAST: Duration = Duration::from_secs(1);
/// How much is heard at once: blocks of 256 KiB.
const MOST_BLOCKS: usize = 1024;
/// No agent has more questions open at a time.
const MOST_OPEN_CALLS: usize = 1000;
/// How long sessions have to close before the agent sees end-of-file anyway.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// A conversation with one adapter. Dropping it stops the task, and nothing else.
pub struct Driver {
    stdout: PathBuf,
    heard_bytes: Arc<AtomicU64>,
    /// Where the line begins that is being heard.
    line_at: Arc<AtomicU64>,
    progress: watch::Receiver<Arc<Progress>>,
    task: JoinHandle<()>,
}

impl Driver {
    /// What it has come to.
    pub fn progress(&self) -> watch::Receiver<Arc<Progress>> {
        self.progress.clone()
    }

    /// Whether all that the adapter has said shows in the progress. Of one that has ended, nothing more will come then.
    pub fn drained(&self) -> bool {
        let said_bytes = std::fs::metadata(&self.stdout).map_or(0, |metadata| metadata.len());
        self.heard_bytes.load(Ordering::Acquire) >= said_bytes
    }

    /// That the last line of an adapter that has ended has no end, in words, if so. It may be an answer that was cut short.
    pub fn torn(&self) -> Option<String> {
        let (heard, at) = (self.heard_bytes.load(Ordering::Acquire), self.line_at.load(Ordering::Acquire));
        let torn = at < heard && self.stdout.with_file_name("exit.json").exists();
        torn.then(|| format!("the agent ended in the middle of a line (that begins at byte {at} of its stdout)"))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a task (on the current tokio runtime) that talks to the adapter whose run directory is `config.dir`. `on_change` is
/// called after each change of its progress.
pub fn spawn_driver(
    config: DriverConfig,
    wanted: watch::Receiver<Wanted>,
    on_change: impl Fn() + Send + 'static,
) -> Driver {
    let (sender, progress) = watch::channel(Arc::new(Progress::default()));
    let (stdout, exit_file) = (config.dir.join("stdout"), config.dir.join("exit.json"));
    let [heard_bytes, line_at] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
    let (heard, line) = (Arc::clone(&heard_bytes), Arc::clone(&line_at));
    let publish = move |next: Progress, until: u64, line_begins: u64| {
        line.store(line_begins, Ordering::Release);
        let changed = sender.send_if_modified(|now| {
            let differs = **now != next;
            if differs {
                *now = Arc::new(next);
            }
            differs
        });
        // After the progress: who sees it drained sees the outcome too. Once the adapter has ended, that it is drained is news.
        let more = heard.swap(until, Ordering::AcqRel) != until;
        if changed || (more && exit_file.exists()) {
            on_change();
        }
    };
    Driver { stdout, heard_bytes, line_at, progress, task: tokio::spawn(drive(config, wanted, publish)) }
}

async fn drive(
    config: DriverConfig,
    mut wanted: watch::Receiver<Wanted>,
    publish: impl Fn(Progress, u64, u64) + Send + 'static,
) {
    let mut talk = open(&config).await;
    // Watched before it is read: what comes in between wakes us.
    let watch = Watch::new(&config.dir);
    let mut wanted_lives = true;
    loop {
        let now = wanted.borrow_and_update().clone();
        let acted = match talk.hear_all().await {
            Ok(more) => talk.act(&now).map(|()| if more { Duration::ZERO } else { Duration::MAX }),
            Err(error) => Err(error),
        };
        let stdout = &talk.stdout;
        let (until, line_at) = (stdout.offset(), stdout.line_at());
        publish(talk.progress(&now), until, line_at);
        let pause = acted.map(|most| talk.pause(&now).min(most)).unwrap_or_else(|error| {
            tracing::warn!(%error, dir = %config.dir.display(), "failed to talk to the adapter; trying again");
            WAIT_LAST
        });
        let pause = pause.min(if watch.works { WATCHED } else { UNWATCHED });
        tokio::select! {
            () = watch.woken() => {}
            () = tokio::time::sleep(pause) => {}
            changed = wanted.changed(), if wanted_lives => wanted_lives = changed.is_ok(),
        }
    }
}

/// Waits until the run directory is there and no other driver speaks on it, and reads back what we said.
async fn open(config: &DriverConfig) -> Talk {
    let mut pause = Duration::from_millis(5);
    loop {
        let mut replay = Replay::new(config.uid.clone());
        let opened = Stdin::open(&config.dir, |line| match Line::parse(line) {
            Ok(line) => replay.sent(line),
            Err(error) => {
                tracing::warn!(%error, dir = %config.dir.display(), "a line of stdin makes no sense; skipped")
            }
        });
        match opened {
            Ok(Some(stdin)) => return Talk::new(config.clone(), replay, stdin),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, dir = %config.dir.display(), "failed to open stdin; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(WAIT_LAST);
    }
}

struct Talk {
    config: DriverConfig,
    replay: Replay,
    stdin: Stdin,
    stdout: Stdout,
    nonsense: Nonsense,
    /// Runs that must not be asked.
    refused: BTreeMap<String, Failure>,
    /// Outcomes, once an output file was read for them.
    outcomes: BTreeMap<String, Outcome>,
    closing_since: Option<Instant>,
    closed: bool,
    wait: Duration,
}

impl Talk {
    fn new(config: DriverConfig, replay: Replay, stdin: Stdin) -> Talk {
        let stdout = Stdout::new(&config.dir);
        Talk {
            closed: config.dir.join("stdin.eof").exists(),
            config,
            replay,
            stdin,
            stdout,
            nonsense: Nonsense::default(),
            refused: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            closing_since: None,
            wait: WAIT_FIRST,
        }
    }

    /// To the end, before anything is said: a decision is taken on all that is known. But for an agent that talks faster than
    /// we hear; true: there is more.
    async fn hear_all(&mut self) -> io::Result<bool> {
        for _ in 0..MOST_BLOCKS {
            if self.nonsense.fatal().is_some() {
                self.stdout.skip();
                return Ok(false);
            }
            if !self.hear()? {
                return Ok(false);
            }
            // Their answers come first.
            if self.replay.count_of_open_calls() > MOST_OPEN_CALLS {
                return Ok(true);
            }
            tokio::task::yield_now().await;
        }
        Ok(true)
    }

    fn act(&mut self, wanted: &Wanted) -> io::Result<()> {
        if self.nonsense.fatal().is_none() {
            self.answer(wanted)?;
            self.say(wanted)?;
        }
        self.leave(wanted)
    }

    fn hear(&mut self) -> io::Result<bool> {
        let Talk { stdout, replay, nonsense, config, .. } = self;
        stdout.read(|heard| match heard {
            Heard::TooLong(at) => nonsense.give_up(format!(
                "the agent wrote a line that is longer than {LONGEST_LINE_BYTES} bytes (at byte {at} of its stdout), which may have been an answer"
            )),
            Heard::Line(_, line) if line.trim_ascii().is_empty() => {}
            Heard::Line(at, line) => match Line::parse(line).and_then(|line| replay.received(line)) {
                Ok(()) => nonsense.sense(),
                Err(why) => {
                    if let Some(words) = nonsense.line(at, line, &why) {
                        tracing::warn!(adapter = %config.uid, "{words}");
                    }
                }
            },
        })
    }

    fn answer(&mut self, wanted: &Wanted) -> io::Result<()> {
        for call in self.replay.open_calls() {
            if let Some(result) = calls::answer(&call, &self.replay, wanted, &self.config) {
                self.append(response(&call.id, result))?;
                self.wait = WAIT_FIRST;
            }
        }
        if self.replay.count_of_open_calls() > MOST_OPEN_CALLS {
            self.nonsense.give_up(format!("more than {MOST_OPEN_CALLS} questions of the agent wait for an answer"));
        }
        Ok(())
    }

    fn say(&mut self, wanted: &Wanted) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        self.refuse(wanted);
        self.make_room(wanted);
        loop {
            let messages = self.replay.next(wanted, &self.refused);
            if messages.is_empty() {
                return Ok(());
            }
            for message in messages {
                self.append(message)?;
            }
        }
    }

    /// An agent in a directory that is not there would do its work somewhere else, or fail without saying why.
    fn refuse(&mut self, wanted: &Wanted) {
        self.refused.retain(|run, _| wanted.turns.iter().any(|turn| turn.run == *run));
        loop {
            let before = self.refused.len();
            for turn in self.replay.due(wanted, &self.refused) {
                if !self.replay.has_opened(&turn.run) && !turn.cwd.is_dir() {
                    let message = format!("the working directory {} is not there", turn.cwd.display());
                    self.refused.insert(turn.run.clone(), outcome::failure("NoWorkingDirectory", message));
                }
            }
            // Now it is the turn of others, perhaps.
            if self.refused.len() == before {
                return;
            }
        }
    }

    /// The directory of an output file is ours to make: the agent was told to write there.
    fn make_room(&self, wanted: &Wanted) {
        for turn in self.replay.due(wanted, &self.refused) {
            if let OutputMode::File(path) = &turn.output_mode
                && let Some(parent) = path.parent()
                && let Err(error) = std::fs::create_dir_all(parent)
            {
                tracing::warn!(%error, dir = %parent.display(), "failed to make the directory of an output file");
            }
        }
    }

    fn append(&mut self, message: Outgoing) -> io::Result<()> {
        self.stdin.append(&message)?;
        match Line::parse(message.as_bytes()) {
            Ok(line) => self.replay.sent(line),
            Err(error) => tracing::error!(%error, "a line of our own makes no sense"),
        }
        Ok(())
    }

    /// End-of-file, once every session is closed, or did not close in time.
    fn leave(&mut self, wanted: &Wanted) -> io::Result<()> {
        if !wanted.closing || self.closed {
            return Ok(());
        }
        let since = *self.closing_since.get_or_insert_with(Instant::now);
        if self.replay.all_closed() || since.elapsed() >= CLOSE_PATIENCE {
            std::fs::File::create(self.config.dir.join("stdin.eof"))?;
            os::ring(&self.config.dir);
            self.closed = true;
        }
        Ok(())
    }

    fn progress(&mut self, wanted: &Wanted) -> Progress {
        self.outcomes.retain(|run, _| wanted.turns.iter().any(|turn| turn.run == *run));
        let mut turns = BTreeMap::new();
        for turn in &wanted.turns {
            let session = self.replay.session(&turn.run);
            let state = match (self.outcomes.get(&turn.run), self.refused.get(&turn.run)) {
                (Some(outcome), _) => TurnState::Done(outcome.clone()),
                (None, Some(failure)) => TurnState::Done(Outcome {
                    result: Err(failure.clone()),
                    usage: None,
                    cost_usd: None,
                    session: None,
                }),
                (None, None) => match self.replay.at(turn) {
                    At::Waiting => TurnState::Waiting,
                    At::InFlight => TurnState::InFlight,
                    At::Ended(ended) => {
                        let outcome = outcome::of(&ended, &turn.output_mode, session);
                        self.outcomes.insert(turn.run.clone(), outcome.clone());
                        TurnState::Done(outcome)
                    }
                },
            };
            turns.insert(turn.run.clone(), state);
        }
        Progress {
            handshake: self.handshake(),
            turns,
            sessions: self.replay.sessions(),
            terminals: self.replay.terminals(),
            closed: self.closed,
            nonsense: self.nonsense.first().map(str::to_owned),
            garbled: self.nonsense.fatal().map(str::to_owned),
        }
    }

    /// An agent that says nothing in time has failed; should it speak after all, it has not.
    fn handshake(&self) -> Handshake {
        let limit = self.config.start_timeout;
        match self.replay.handshake() {
            Handshake::Pending if !limit.is_zero() && self.left_of_start().is_zero() => {
                Handshake::Failed(format!("the agent did not answer initialize within {}", limit))
            }
            handshake => handshake,
        }
    }

    fn left_of_start(&self) -> Duration {
        let now = Time(jiff::Timestamp::now().as_millisecond());
        self.config.started_at.after(self.config.start_timeout.0).since(now)
    }

    fn pause(&mut self, wanted: &Wanted) -> Duration {
        let mut pause = Duration::MAX;
        if self.replay.has_open_calls() {
            pause = self.wait;
            self.wait = (self.wait * 2).min(WAIT_LAST);
        }
        if self.handshake() == Handshake::Pending && !self.config.start_timeout.is_zero() {
            pause = pause.min(self.left_of_start() + Duration::from_millis(1));
        }
        if let (true, false, Some(since)) = (wanted.closing, self.closed, self.closing_since) {
            pause = pause.min(CLOSE_PATIENCE.saturating_sub(since.elapsed()) + Duration::from_millis(1));
        }
        pause
    }
}
