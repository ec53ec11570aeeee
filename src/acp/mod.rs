//! The ACP client over a workload's stdio files: it asks an adapter to take turns, and answers what the adapter asks.
//!
//! Promises:
//! - **Stateless.** What must be known after a restart is read back from two files: `stdin` (what we said, append-only) and
//!   `stdout` (what the agent said). Request ids are made of turn keys, so a request whose id stands in `stdin` was sent, and is
//!   never sent again; a request of the agent without our answer in `stdin` is answered now.
//! - **Level-triggered.** A driver is told what it should be doing ([`Wanted`]), not what to do. A turn that vanishes from it is
//!   cancelled, and its session closed unless others go on in it. So the first `Wanted` that a driver is given must be complete.
//! - **One turn at a time** in a session, and what is said in it belongs to that turn.
//! - Dropping a [`Driver`] stops a task, never an agent. Two drivers never speak on one `stdin`: it is locked.
//! - The end of the adapter's process is not seen here; `exit.json` tells it, and others read that.
//!
//! `session.rs` is the protocol, pure: lines in, messages out (`session/`). `driver.rs` is the task around it; `calls.rs` answers the agent,
//! with `fs.rs`, `terminal.rs`, and `permission.rs`; `outcome.rs` says what the end of a turn means.

mod answers;
mod calls;
mod driver;
mod fs;
mod message;
mod nonsense;
mod outcome;
mod permission;
mod session;
mod stdio;
mod terminal;
mod watch;

#[cfg(test)]
mod tests;

pub use driver::{Driver, spawn_driver};

use crate::model::{Outcome, Permissions, Span, Time, WorkloadUid};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// One question to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What tells its run from all others that this agent ever sees: the key. It is asked once, ever.
    pub run: String,
    /// What is asked, with everything replaced and appended.
    pub prompt: String,
    /// The working directory; absolute, and there. A session keeps that of the turn that opened it.
    pub cwd: PathBuf,
    /// Further directories (or files) that the agent may read and write through us; absolute. By itself, it may what the turn
    /// may that opened the session.
    pub allowed_paths: Vec<PathBuf>,
    /// How the outputs come about.
    pub output_mode: OutputMode,
    /// The model, if that of the session (at first the agent's default) will not do.
    pub model: Option<String>,
    /// The tools that the agent may use; empty: its own choice. A session keeps those of the turn that opened it. Only
    /// `claude-agent-acp` is known to listen to this.
    pub tools: Vec<String>,
    /// How requests for permission are answered; none: as the adapter's are.
    pub permissions: Option<Permissions>,
    /// The conversation that it continues, or begins; none: a session of its own, closed when the turn is not wanted any more.
    pub conversation: Option<Conversation>,
}

/// A session that several turns share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Turns with the same key share one session, one turn at a time, in the order of [`Wanted::turns`].
    pub key: String,
    /// The agent's name for the session that an earlier adapter had for this conversation. Where none is open, that one goes on,
    /// if the agent can do that; else it begins anew.
    pub resume: Option<String>,
    /// Where it begins: as a fork of this session of the agent's. An agent that can not: the turn fails, `ForkUnsupported`.
    pub fork_of: Option<String>,
}

/// How the outputs of a turn come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputMode {
    /// `{"status": "completed"}`.
    Effect,
    /// `{"result": text}`.
    StreamResult,
    /// The JSON object in this file, once the turn has ended.
    File(PathBuf),
}

/// What a driver should be doing now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The turns that are wanted: keep one here until its outcome is recorded.
    pub turns: Vec<Turn>,
    /// The keys of conversations that stay open though no turn of theirs is wanted now; any other is closed then.
    pub keep: BTreeSet<String>,
    /// Take leave: close the sessions, then let the agent see end-of-file.
    pub closing: bool,
}

/// What a driver must know of its adapter.
#[derive(Clone)]
pub struct DriverConfig {
    /// The adapter.
    pub uid: WorkloadUid,
    /// Its run directory.
    pub dir: PathBuf,
    /// How requests for permission are answered.
    pub permissions: Permissions,
    /// For the handshake; 0: no limit.
    pub start_timeout: Span,
    /// When the adapter was started.
    pub started_at: Time,
    /// Where the files of another workload (a terminal) are now: `StateDir::transcripts`.
    pub terminal_dir: Arc<dyn Fn(&WorkloadUid) -> PathBuf + Send + Sync>,
}

/// How far the handshake is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Handshake {
    /// Not answered yet.
    #[default]
    Pending,
    /// The agent speaks our protocol.
    Done,
    /// It does not, or did not say so in time.
    Failed(String),
}

/// How far a turn is.
#[derive(Debug, Clone, PartialEq)]
pub enum TurnState {
    /// It was not asked yet.
    Waiting,
    /// It was asked.
    InFlight,
    /// It ended.
    Done(Outcome),
}

/// A process that the agent wants: a workload of its own, whose parent is the adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminalWanted {
    /// Its uid: always the same for the same request of the same adapter.
    pub id: WorkloadUid,
    /// The run in whose turn it was asked for.
    pub run: Option<String>,
    /// The program.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, over the controller's own.
    pub env: BTreeMap<String, String>,
    /// Where it runs.
    pub cwd: PathBuf,
    /// The agent let go of it, or its session is gone: it is not needed any more, running or not.
    pub released: bool,
    /// It must end, and what it said must stay readable.
    pub kill: bool,
}

/// What a driver has come to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Progress {
    /// How far the handshake is.
    pub handshake: Handshake,
    /// Every wanted turn, by run.
    pub turns: BTreeMap<String, TurnState>,
    /// The agent's sessions, by each run that was asked in one (or opened it), for as long as they are open.
    pub sessions: BTreeMap<String, String>,
    /// Every process that the agent asked for, in its order.
    pub terminals: Vec<TerminalWanted>,
    /// Leave was taken: `stdin.eof` is there.
    pub closed: bool,
    /// The first thing that the agent said that is no message, in words; it was skipped.
    pub nonsense: Option<String>,
    /// Why there is no sense in talking on, in words, if so: nothing is heard or said any more.
    pub garbled: Option<String>,
}
