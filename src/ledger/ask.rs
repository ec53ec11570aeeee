//! One ledger's desk: each reading on a thread of its own, so that a disk that never answers holds up that thread, and nobody
//! else. While one is stuck, no second one is started.

use super::{Source, acpx, files, stepwise, trust};
use crate::model::{LedgerBook, LedgerType, Question, Time};
use crate::os::effective_uid;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// A reading may take so long; what a large ledger gave by then is kept, and the next reading goes on from there.
pub(super) const READING: Duration = Duration::from_secs(2);

/// After this, whoever asked is told that there is no answer. Later than [`READING`]: only what can not be interrupted
/// comes to this.
const WAITING: Duration = Duration::from_secs(3);

/// What a reading gave.
pub(super) struct Answer {
    /// The ledger, links resolved as far as that was possible.
    pub(super) path: PathBuf,
    /// Its owner. None: not known.
    pub(super) user: Option<u32>,
    /// What it says, or why that is unknown.
    pub(super) book: Result<LedgerBook, String>,
}

/// What is kept between readings: where things are, and what has not changed since.
#[derive(Default)]
pub(super) struct Kept {
    stepwise: stepwise::Index,
    acpx: acpx::Folders,
    files: files::Jobs,
}

/// What a reading is about.
pub(super) struct Task<'a> {
    pub(super) source: &'a Source,
    pub(super) question: &'a Question,
    pub(super) now: Time,
    /// When to stop.
    pub(super) deadline: Instant,
}

#[derive(Default)]
pub(super) struct Desk {
    pub(super) asked_at: Time,
    /// What was learned. Not here while a reading has it.
    kept: Option<Kept>,
    /// The reading that was given up on, and when it began.
    stuck: Option<(Receiver<(Answer, Kept)>, Time)>,
}

impl Desk {
    /// Whether a reading that was given up on has not come back.
    pub(super) fn is_busy(&self) -> bool {
        self.stuck.is_some()
    }

    pub(super) fn ask(&mut self, source: &Source, question: &Question, now: Time) -> Answer {
        self.ask_by(source, question, now, WAITING, read)
    }

    /// The same, by whatever reads it, and with as much patience.
    pub(super) fn ask_by(
        &mut self,
        source: &Source,
        question: &Question,
        now: Time,
        patience: Duration,
        read: impl FnOnce(&Task<'_>, &mut Kept) -> Answer + Send + 'static,
    ) -> Answer {
        self.asked_at = now;
        let unknown = |why: String| Answer { path: source.path.clone(), user: None, book: Err(why) };
        if let Some((receiver, since)) = &self.stuck {
            match receiver.try_recv() {
                // Its answer is one to an earlier question.
                Ok((_, kept)) => self.kept = Some(kept),
                Err(TryRecvError::Disconnected) => {}
                Err(TryRecvError::Empty) => {
                    return unknown(format!("the reading of {since} has not come back: its disk may be stalled"));
                }
            }
            self.stuck = None;
        }
        let (sender, receiver) = sync_channel(1);
        let (mut kept, own_source, question) = (self.kept.take().unwrap_or_default(), source.clone(), question.clone());
        let begun = thread::Builder::new().name("ledger".into()).spawn(move || {
            let deadline = Instant::now() + READING;
            let answer = read(&Task { source: &own_source, question: &question, now, deadline }, &mut kept);
            // Nobody may listen any more.
            let _ = sender.send((answer, kept));
        });
        if let Err(error) = begun {
            return unknown(format!("no thread to read it: {error}"));
        }
        match receiver.recv_timeout(patience) {
            Ok((answer, kept)) => {
                self.kept = Some(kept);
                answer
            }
            Err(RecvTimeoutError::Timeout) => {
                self.stuck = Some((receiver, now));
                unknown(format!("it could not be read within {patience:?}: its disk may be stalled"))
            }
            Err(RecvTimeoutError::Disconnected) => unknown("its reader broke down; that is an error in tenure".into()),
        }
    }
}

fn read(task: &Task<'_>, kept: &mut Kept) -> Answer {
    let place = match trust::place(task.source, effective_uid()) {
        Ok(place) => place,
        Err(why) => return Answer { path: task.source.path.clone(), user: None, book: Err(why) },
    };
    let book = match task.source.r#type {
        LedgerType::Stepwise => stepwise::read(task, &place, &mut kept.stepwise),
        LedgerType::Acpx => acpx::read(task, &place, &mut kept.acpx),
        LedgerType::Files => files::read(task, &place, &mut kept.files),
    };
    Answer { path: place.path, user: Some(place.user), book }
}
