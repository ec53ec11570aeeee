//! acpx's sessions, by the source of acpx 0.19.1 (its `src/` paths below).
//!
//! | file | what it says |
//! | --- | --- |
//! | `sessions/<id>.json` | a session: `closed` is its lifecycle; `pid` the adapter, removed when acpx ends it, or closes the session and does not find it; a new adapter's takes its place (`runtime/engine/lifecycle.ts`, `session/execution/session-control.ts`) |
//! | `queues/<sha256 of the id, 24 digits>.lock` | the lease of its queue owner, the process that holds the adapter's stdio: written every 5 s, removed at an orderly end (`session/queue/lease-store.ts`) |
//!
//! A session that is not closed goes on: acpx may be asked to use it again at any time. But it never takes up an adapter that
//! it did not start itself: it always starts a new one and loads the session into that (`runtime/engine/reconnect.ts`,
//! `connectAndLoadSession`). So an adapter whose queue owner is dead can not be used by anybody any more, and the session has
//! ended for it. The proof: a lease that is stale, whose owner is not there any more by boot, pid namespace, and start
//! time, and an adapter that was started while this lease was held. Where a piece of it is missing, the session goes on: without
//! a lease an adapter may be held directly, by `acpx exec` or by a program that has acpx built in.
//!
//! A closed session's record has no pid: its claim is on whatever was told that session and has its start and its command. An
//! adapter in whose place there is a new one is in no record any more.

use super::ask::Task;
use super::entry::{Named, Scalar, is_asked, named, note, our_line};
use super::folder::{Folder, Rules};
use super::trust::Place;
use crate::model::{BootId, Claim, JobLife, LedgerBook, Pid, ProcId, StartTime, Time};
use crate::os::{ProcRef, boot_id};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// The records that are understood.
const SCHEMA: &str = "acpx.session.v1";

/// A lease that was not written for so long is stale (`QUEUE_OWNER_STALE_HEARTBEAT_MS`).
const STALE: Duration = Duration::from_secs(15);

/// What is known of both directories.
#[derive(Debug, Default)]
pub(super) struct Folders {
    sessions: Folder<Session>,
    leases: Folder<Lease>,
}

/// One session.
#[derive(Debug)]
struct Session {
    id: String,
    /// It has a claim for each of its names: that of the protocol, and the agent's own.
    claims: Vec<Claim>,
    is_closed: bool,
    agent_started_at: Option<Time>,
    /// What of it is no time.
    doubt: Option<String>,
}

/// One lease.
#[derive(Debug)]
struct Lease {
    session: String,
    owner: Pid,
    since: Option<Time>,
    heartbeat: Option<Time>,
    /// The owner's identity: boot, start, and pid namespace.
    identity: Option<(BootId, StartTime, String)>,
}

pub(super) fn read(task: &Task<'_>, place: &Place, folders: &mut Folders) -> Result<LedgerBook, String> {
    let rules = Rules { trust: place.trust, deadline: task.deadline };
    let ours = our_line();
    let is_session = |name: &str| name.ends_with(".json") && name != "index.json";
    // In this order: a lease that is read later can only be a newer one, and under that the session goes on.
    folders.sessions.look(&place.path.join("sessions"), &rules, is_session, |_, bytes| session_of(bytes, &ours))?;
    let queues = place.path.join("queues");
    if queues.try_exists().map_err(|error| super::trust::in_words(&queues, &error))? {
        folders.leases.look(&queues, &rules, |name| name.ends_with(".lock"), |_, bytes| lease_of(bytes))?;
    } else {
        folders.leases = Folder::default();
    }
    let here = Here::look();
    let mut book = LedgerBook::default();
    for (name, entry) in folders.sessions.entries() {
        let session = match entry {
            Ok(session) => session,
            Err(why) => {
                book.unreadable.push(format!("sessions/{name}: {why}"));
                continue;
            }
        };
        // A copy under another name is no session to acpx either.
        if name.strip_suffix(".json") != Some(&file_name_of(&session.id)) {
            continue;
        }
        let lease = folders.leases.get(&format!("{}.lock", queue_key(&session.id)));
        let owned = lease.as_ref().and_then(|lease| lease.ok()).filter(|lease| lease.session == session.id);
        let own = owned.and_then(|lease| here.claim_of(lease, &session.id));
        let claims: Vec<&Claim> =
            session.claims.iter().chain(&own).filter(|claim| is_asked(claim, task.question)).collect();
        if claims.is_empty() && !task.question.jobs.contains(&session.id) {
            continue;
        }
        let life = here.life_of(session, lease, task.now);
        // What began when the queue owner was dead is not its: a person may go on with the agent's session.
        let owner_ended = match lease {
            Some(Ok(lease)) if !session.is_closed && matches!(life, JobLife::Terminal(_)) => lease.heartbeat,
            _ => None,
        };
        let owner_ended = owner_ended.map(|beat| beat.after(STALE));
        book.claims
            .extend(claims.into_iter().map(|claim| Claim { until: claim.until.or(owner_ended), ..claim.clone() }));
        note(&mut book, &session.id, life);
    }
    Ok(book)
}

/// This boot and this pid namespace.
struct Here {
    boot: Option<BootId>,
    namespace: Option<String>,
}

/// Whether the owner that a lease names is there.
enum Owner {
    Lives,
    Dead(String),
    Unsure,
}

impl Here {
    fn look() -> Here {
        let namespace = fs::read_link("/proc/self/ns/pid").ok();
        Here { boot: boot_id().ok(), namespace: namespace.map(|path| path.display().to_string()) }
    }

    fn owner_of(&self, lease: &Lease) -> Owner {
        let (Some((boot, start, namespace)), Some(now)) = (&lease.identity, &self.boot) else { return Owner::Unsure };
        if boot != now {
            return Owner::Dead(format!("its queue owner {} was of an earlier boot", lease.owner));
        }
        if Some(namespace) != self.namespace.as_ref() {
            return Owner::Unsure;
        }
        // One that has ended and was not collected is dead, too.
        match ProcRef::open(ProcId { pid: lease.owner, start: *start }).map(|held| held.map(|held| held.has_ended())) {
            Ok(None) | Ok(Some(Ok(true))) => Owner::Dead(format!("its queue owner {} is dead", lease.owner)),
            Ok(Some(Ok(false))) => Owner::Lives,
            Ok(Some(Err(_))) | Err(_) => Owner::Unsure,
        }
    }

    /// The claim of a session on its queue owner.
    fn claim_of(&self, lease: &Lease, session: &str) -> Option<Claim> {
        let (boot, start, namespace) = lease.identity.as_ref()?;
        (Some(namespace) == self.namespace.as_ref() && lease.owner.get() > 1).then(|| Claim {
            job: session.to_owned(),
            pid: Some(lease.owner),
            start: Some((boot.clone(), *start)),
            ..Claim::default()
        })
    }

    fn life_of(&self, session: &Session, lease: Option<Result<&Lease, &str>>, now: Time) -> JobLife {
        if session.is_closed {
            let word = "closed".to_owned();
            return match &session.doubt {
                Some(doubt) => JobLife::Unknown(format!("{word}, but {doubt}")),
                None => JobLife::Terminal(word),
            };
        }
        let lease = match lease {
            None => return JobLife::Active("open".into()),
            Some(Err(why)) => return JobLife::Active(format!("open; its lease: {why}")),
            Some(Ok(lease)) => lease,
        };
        match self.owner_of(lease) {
            Owner::Dead(proof) if lease.session == session.id && was_held(session, lease, now) => {
                JobLife::Terminal(proof)
            }
            Owner::Dead(proof) if lease.heartbeat.is_some_and(|beat| now.since(beat) <= STALE) => {
                JobLife::Active(format!("open; {proof}, but its lease is not stale yet"))
            }
            Owner::Dead(proof) => JobLife::Active(format!("open; {proof}, but its adapter may not be of that owner")),
            Owner::Lives => JobLife::Active(format!("open, held by queue owner {}", lease.owner)),
            Owner::Unsure => {
                JobLife::Active(format!("open; whether its queue owner {} lives is not known", lease.owner))
            }
        }
    }
}

/// Whether the lease is stale, and the session's adapter was started while it was held.
fn was_held(session: &Session, lease: &Lease, now: Time) -> bool {
    let (Some(started), Some(since), Some(beat)) = (session.agent_started_at, lease.since, lease.heartbeat) else {
        return false;
    };
    session.doubt.is_none() && now.since(beat) > STALE && since <= started && started <= beat.after(STALE)
}

/// A record, as far as it matters. Its messages are passed over.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, default)]
    schema: Scalar<'a>,
    #[serde(borrow, default)]
    acpx_record_id: Scalar<'a>,
    #[serde(borrow, default)]
    acp_session_id: Scalar<'a>,
    #[serde(borrow, default)]
    agent_session_id: Scalar<'a>,
    #[serde(borrow, default)]
    agent_command: Scalar<'a>,
    #[serde(borrow, default)]
    closed: Scalar<'a>,
    #[serde(borrow, default)]
    closed_at: Scalar<'a>,
    #[serde(borrow, default)]
    pid: Scalar<'a>,
    #[serde(borrow, default)]
    agent_started_at: Scalar<'a>,
    #[serde(borrow, default)]
    last_agent_exit_at: Scalar<'a>,
}

fn session_of(bytes: &[u8], ours: &BTreeSet<Pid>) -> Result<Session, String> {
    let record: Record<'_> = object(bytes)?;
    match record.schema.text() {
        Some(SCHEMA) => {}
        Some(other) => return Err(format!("its schema is `{other}`, and `{SCHEMA}` is known")),
        None => return Err("it has no schema".into()),
    }
    let id = record.acpx_record_id.text().ok_or("it has no acpx_record_id")?.to_owned();
    let is_closed = match record.closed {
        Scalar::Bool(closed) => closed,
        Scalar::Nothing => false,
        _ => return Err("`closed` is neither true nor false".into()),
    };
    let mut doubt = None;
    let mut time = |key: &str, value: &Scalar<'_>| match value.time() {
        Ok(time) => time,
        Err(error) => {
            doubt = Some(format!("{key}: {error}"));
            None
        }
    };
    let agent_started_at = time("agent_started_at", &record.agent_started_at);
    let exited_at = time("last_agent_exit_at", &record.last_agent_exit_at);
    let closed_at = time("closed_at", &record.closed_at);
    let mut claims = Vec::new();
    let names: BTreeSet<&str> =
        record.acp_session_id.text().into_iter().chain(record.agent_session_id.text()).collect();
    for name in names {
        match named(&record.pid, &Scalar::Nothing, Some(name), ours) {
            Named::Claim(claim) => claims.push(Claim {
                job: id.clone(),
                started_at: agent_started_at,
                until: exited_at.or(closed_at),
                command: record.agent_command.text().map(str::to_owned),
                ..claim
            }),
            Named::Nobody => {}
            Named::Nonsense(what) => return Err(what),
        }
    }
    if claims.is_empty() {
        return Err("it has no acp_session_id".into());
    }
    Ok(Session { id, claims, is_closed, agent_started_at, doubt })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeaseFile<'a> {
    #[serde(borrow, default)]
    pid: Scalar<'a>,
    session_id: String,
    #[serde(borrow, default)]
    created_at: Scalar<'a>,
    #[serde(borrow, default)]
    heartbeat_at: Scalar<'a>,
    #[serde(default)]
    process_identity: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    boot_id: BootId,
    pid_namespace: String,
    start_ticks: String,
}

fn lease_of(bytes: &[u8]) -> Result<Lease, String> {
    let file: LeaseFile<'_> = object(bytes)?;
    let owner = file.pid.pid().ok_or("its pid is none")?;
    // Other systems have other identities, and acpx itself does without one that it does not know.
    let identity = file.process_identity.and_then(|value| serde_json::from_value::<Identity>(value).ok());
    let identity = identity.and_then(|identity| {
        let start = StartTime(identity.start_ticks.parse().ok()?);
        Some((identity.boot_id, start, identity.pid_namespace))
    });
    Ok(Lease {
        session: file.session_id,
        owner,
        since: file.created_at.time().ok().flatten(),
        heartbeat: file.heartbeat_at.time().ok().flatten(),
        identity,
    })
}

fn object<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    // A struct could be read from a list, too.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err("it is no JSON object".into());
    }
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// `queueKeyForSession`.
fn queue_key(session: &str) -> String {
    Sha256::digest(session.as_bytes()).iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

/// `encodeURIComponent`.
fn file_name_of(session: &str) -> String {
    let mut name = String::new();
    for byte in session.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name
}
