//! acpx's sessions and leases, in the shape that acpx 0.19.1 writes them.

use super::support::*;
use crate::ledger::Source;
use crate::model::{JobLife, LedgerBook, LedgerType, Pid, Question, Reading, Time};
use crate::os::testing::{KillOnDrop, id_of, kill};
use crate::os::{boot_id, start_time};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const STARTED: &str = "2026-11-27T19:39:17.328Z";
/// The queue key of the session `echo-25454-0`, as acpx 0.19.1 made it.
const KEY: &str = "81f6b079e4e383111798024d";

struct Home {
    _scratch: TempDir,
    path: PathBuf,
}

impl Home {
    fn new() -> Home {
        let (scratch, path) = scratch();
        fs::create_dir_all(path.join("sessions")).unwrap();
        fs::create_dir_all(path.join("queues")).unwrap();
        Home { _scratch: scratch, path }
    }

    fn source(&self) -> Source {
        source(LedgerType::Acpx, &self.path)
    }

    fn session(&self, change: impl FnOnce(&mut Value)) {
        let mut record = json!({
            "schema": "acpx.session.v1", "acpx_record_id": "echo-25454-0", "acp_session_id": "echo-25546-0",
            "agent_command": "/usr/bin/tenure-echo", "cwd": "/tmp", "created_at": "2026-11-27T19:39:16.068Z",
            "last_used_at": "2026-11-27T19:39:18.644Z", "last_seq": 8, "closed": false, "pid": 25546,
            "agent_started_at": STARTED, "title": null, "messages": [{"User": {"content": [{"Text": "hello"}]}}],
        });
        change(&mut record);
        fs::write(self.path.join("sessions/echo-25454-0.json"), record.to_string()).unwrap();
    }

    fn lease(&self, owner: Pid, change: impl FnOnce(&mut Value)) {
        let namespace = fs::read_link("/proc/self/ns/pid").map_or("none".into(), |path| path.display().to_string());
        let start = start_time(owner).unwrap().map_or(0, |start| start.0);
        let mut lease = json!({
            "pid": owner, "sessionId": "echo-25454-0", "socketPath": "/tmp/acpx.sock", "queueDepth": 0,
            "createdAt": "2026-11-27T19:39:17.280Z", "heartbeatAt": "2026-11-27T19:45:00.000Z", "ownerGeneration": 160914112260275_u64,
            "processIdentity": {"kind": "linux-proc", "bootId": boot_id().unwrap(), "pidNamespace": namespace,
                "timeNamespace": "time:[4026531834]", "startTicks": start.to_string()},
        });
        change(&mut lease);
        fs::write(self.path.join(format!("queues/{KEY}.lock")), lease.to_string()).unwrap();
    }

    fn book(&self) -> LedgerBook {
        let question = Question { sessions: ["echo-25546-0".to_owned()].into(), ..about([25_546]) };
        known(read(&self.source(), &question))
    }

    fn life(&self) -> JobLife {
        self.book().jobs.remove("echo-25454-0").unwrap()
    }
}

fn owner() -> Child {
    Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap()
}

#[test]
fn an_open_session_goes_on_and_a_closed_one_has_ended() {
    let home = Home::new();
    home.session(|_| {});
    let book = home.book();
    let [claim] = book.claims.as_slice() else { panic!("{book:?}") };
    assert_eq!((claim.pid, claim.session.as_deref(), claim.until), (Some(pid(25_546)), Some("echo-25546-0"), None));
    assert_eq!(claim.started_at, Some(Time(1_795_808_357_328)));
    assert_eq!(claim.command.as_deref(), Some("/usr/bin/tenure-echo"));
    assert_eq!(home.life(), JobLife::Active("open".into()));
    // As `acpx sessions close` leaves it: without a pid.
    home.session(|record| {
        record["closed"] = true.into();
        record["closed_at"] = "2026-11-27T19:41:51.211Z".into();
        record.as_object_mut().unwrap().remove("pid");
    });
    assert_eq!(home.life(), JobLife::Terminal("closed".into()));
    let claim = &home.book().claims[0];
    assert_eq!((claim.pid, claim.until), (None, Some(Time(1_795_808_511_211))));
    home.session(|record| {
        record["closed"] = true.into();
        record["closed_at"] = "soon".into();
    });
    assert!(matches!(home.life(), JobLife::Unknown(_)));
}

#[test]
fn an_adapter_whose_queue_owner_is_dead_has_ended_and_one_piece_of_proof_less_leaves_it() {
    let home = Home::new();
    home.session(|_| {});
    let mut child = owner();
    let id = id_of(&child);
    let end = KillOnDrop(id);
    home.lease(id.pid, |_| {});
    let lease = fs::read(home.path.join(format!("queues/{KEY}.lock"))).unwrap();
    assert_eq!(home.life(), JobLife::Active(format!("open, held by queue owner {}", id.pid)));
    // The session's claim on its owner, by identity.
    let question = Question { pids: [id.pid].into(), ..Question::default() };
    let book = known(read(&home.source(), &question));
    assert_eq!(book.claims[0].start, Some((boot_id().unwrap(), id.start)));

    kill(id);
    assert_eq!(
        home.life(),
        JobLife::Terminal(format!("its queue owner {} is dead", id.pid)),
        "though nobody collected it"
    );
    child.wait().unwrap();
    drop(end);
    // What began later is not its, though it may have the agent's session in its environment.
    let stale: jiff::Timestamp = "2026-11-27T19:45:15Z".parse().unwrap();
    let book = known(read(&home.source(), &question));
    assert_eq!(book.claims[0].until, Some(Time(stale.as_millisecond())));
    assert_eq!(home.life(), JobLife::Terminal(format!("its queue owner {} is dead", id.pid)));

    let again = |change: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_slice(&lease).unwrap();
        change(&mut value);
        fs::write(home.path.join(format!("queues/{KEY}.lock")), value.to_string()).unwrap();
        home.life()
    };
    let is_active = |life: JobLife| matches!(life, JobLife::Active(_));
    assert_eq!(
        again(&|lease| lease["heartbeatAt"] = NOW.to_string().into()),
        JobLife::Active(format!("open; its queue owner {} is dead, but its lease is not stale yet", id.pid))
    );
    assert!(
        is_active(again(&|lease| lease["createdAt"] = "2026-11-27T19:40:00Z".into())),
        "a lease younger than the adapter"
    );
    assert!(
        is_active(again(&|lease| lease["heartbeatAt"] = "2026-11-27T19:39:00Z".into())),
        "one that ended before it"
    );
    assert!(is_active(again(&|lease| lease["processIdentity"] = Value::Null)), "an owner without an identity");
    assert!(
        is_active(again(&|lease| lease["processIdentity"]["pidNamespace"] = "pid:[1]".into())),
        "of another namespace"
    );
    assert!(is_active(again(&|lease| lease["sessionId"] = "another".into())), "the lease of another session");
    fs::write(home.path.join(format!("queues/{KEY}.lock")), &lease[..40]).unwrap();
    assert!(is_active(home.life()), "half a lease");
    let earlier = again(&|lease| lease["processIdentity"]["bootId"] = "00000000-0000-0000-0000-000000000000".into());
    assert_eq!(earlier, JobLife::Terminal(format!("its queue owner {} was of an earlier boot", id.pid)));
    fs::remove_dir_all(home.path.join("queues")).unwrap();
    assert_eq!(home.life(), JobLife::Active("open".into()), "no lease at all");
}

#[test]
fn what_is_no_session_that_we_know_is_unreadable_and_what_is_none_to_acpx_is_passed_over() {
    let home = Home::new();
    home.session(|_| {});
    let at = |name: &str| home.path.join("sessions").join(name);
    let whole = fs::read(at("echo-25454-0.json")).unwrap();
    fs::copy(at("echo-25454-0.json"), at("a copy.json")).unwrap();
    fs::write(at("index.json"), "[]").unwrap();
    fs::write(at("echo-25454-0.stream.ndjson"), "{}").unwrap();
    assert_eq!((home.book().claims.len(), home.book().unreadable.len()), (1, 0));
    fs::write(at("half.json"), &whole[..whole.len() - 9]).unwrap();
    fs::write(at("list.json"), "[]").unwrap();
    fs::write(at("newer.json"), r#"{"schema": "acpx.session.v2"}"#).unwrap();
    fs::create_dir(at("directory.json")).unwrap();
    nix::unistd::mkfifo(&at("fifo.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink(at("echo-25454-0.json"), at("link.json")).unwrap();
    let lines = home.book().unreadable;
    let names: Vec<&str> = lines.iter().map(|line| line.split(": ").next().unwrap()).collect();
    let expected = ["directory", "fifo", "half", "link", "list", "newer"].map(|name| format!("sessions/{name}.json"));
    assert_eq!(names, expected, "{lines:?}");
}

#[test]
fn a_home_without_sessions_is_unknown_and_not_empty() {
    let home = Home::new();
    assert_eq!(home.book(), LedgerBook::default());
    fs::remove_dir_all(home.path.join("sessions")).unwrap();
    assert!(matches!(read(&home.source(), &about([1])).book, Reading::Unknown(why) if why.contains("is gone")));
    assert!(why(read(&source(LedgerType::Acpx, Path::new("/nowhere")), &about([1]))).contains("is gone"));
}
