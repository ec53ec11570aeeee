//! What a pass tells of processes that are there, that change, and that go.

use super::*;
use crate::os::testing::{KillOnDrop, eventually, id_of};
use crate::os::{effective_uid, self_id};
use std::process::{Child, Command, Stdio};

fn table() -> HostTable {
    HostTable::new(&["TENURE_TEST_A", "TENURE_TEST_B"])
}

fn get(table: &HostTable, pid: Pid) -> Option<&HostProcess> {
    table.iter().find(|process| process.id.pid == pid)
}

fn start(command: &mut Command) -> (Child, KillOnDrop) {
    let child = command.stdin(Stdio::null()).spawn().unwrap();
    let held = KillOnDrop(id_of(&child));
    (child, held)
}

/// Until its exec it is a copy of this process.
fn seen(table: &mut HostTable, id: ProcId, first_word: &str) -> HostProcess {
    eventually("its exec", || {
        table.pass(|_| false).unwrap();
        get(table, id.pid).filter(|it| it.argv.first().is_some_and(|word| word == first_word)).cloned()
    })
}

#[test]
fn a_process_is_told_with_its_words_its_user_and_what_was_asked_of_its_environment() {
    let mut command = Command::new("sleep");
    command.arg("1050").env("TENURE_TEST_A", "a value").env("TENURE_TEST_C", "not asked for");
    let before = Time(boot_time()).after(since_boot());
    let (mut child, held) = start(&mut command);
    let seen = seen(&mut table(), held.0, "sleep");
    assert_eq!(seen.id, held.0);
    assert_eq!(seen.parent, Some(self_id().unwrap().pid));
    assert_eq!(seen.argv, ["sleep", "1050"]);
    assert_eq!(seen.name, "sleep");
    // It may be one program of many names.
    assert!(seen.exe.as_ref().is_some_and(|exe| exe.starts_with('/')), "{:?}", seen.exe);
    assert_eq!(seen.user, nix::unistd::getuid().as_raw());
    assert_eq!(seen.environment.known().unwrap(), &BTreeMap::from([("TENURE_TEST_A".into(), "a value".into())]));
    assert!(seen.rss_bytes > 0 && seen.pss_bytes.is_none() && !seen.is_zombie());
    let off = seen.started_at.0.abs_diff(before.0);
    assert!(off < 10_000, "it started {off} ms from when it was started");
    assert!(proportional_bytes(seen.id).is_some_and(|pss| pss > 0 && pss <= 1 << 30));
    let other = ProcId { start: crate::model::StartTime(seen.id.start.0 - 1), ..seen.id };
    assert_eq!(proportional_bytes(other), None, "the memory of another process");
    drop(held);
    child.wait().unwrap();
}

#[test]
fn what_lives_in_a_pid_namespace_below_ours_is_in_a_container() {
    for (status, expected) in [
        ("Name:\tx\nNSpid:\t4711\nUid:\t1\n", false),
        ("Name:\tx\nNSpid:\t4711\t57\nUid:\t1\n", true),
        ("Name:\tx\nNSpid:\t4711\t57\t1\n", true),
        ("Name:\tNSpid: 1 2\n", false),
    ] {
        assert_eq!(is_in_container(status.as_bytes()), expected, "{status:?}");
    }
}

#[test]
fn a_kernel_thread_and_an_empty_environment_are_known_to_have_no_variables() {
    let mut command = Command::new("sleep");
    let (mut child, held) = start(command.arg("1051").env_clear());
    let seen = seen(&mut table(), held.0, "sleep");
    assert_eq!(seen.environment, Reading::Known(BTreeMap::new()));
    drop(held);
    child.wait().unwrap();
}

#[test]
fn who_has_ended_and_was_not_collected_is_a_zombie_with_the_words_that_it_had() {
    let (mut child, held) = start(Command::new("sleep").arg("1052").env("TENURE_TEST_B", "b"));
    let mut table = table();
    let before = seen(&mut table, held.0, "sleep");
    drop(held);
    let after = eventually("its end", || {
        table.pass(|process| process.id == before.id).unwrap();
        get(&table, before.id.pid).filter(|it| it.is_zombie()).cloned()
    });
    assert_eq!((after.argv, after.environment), (before.argv, before.environment));
    child.wait().unwrap();
    table.pass(|_| false).unwrap();
    assert!(get(&table, before.id.pid).is_none());
}

/// Its children are given to somebody else, and nothing but their `stat` says to whom.
#[test]
fn who_loses_its_parent_has_another_one_at_the_next_pass() {
    let (mut shell, held) = start(Command::new("sh").args(["-c", "sleep 1053 & wait"]));
    let mut table = table();
    let sleeping = eventually("its child", || {
        table.pass(|_| false).unwrap();
        table.iter().find(|it| it.parent == Some(held.0.pid) && it.argv == ["sleep", "1053"]).cloned()
    });
    let _sleeping = KillOnDrop(sleeping.id);
    let parent = held.0.pid;
    drop(held);
    shell.wait().unwrap();
    table.pass(|_| false).unwrap();
    let now = get(&table, sleeping.id.pid).unwrap();
    assert!(now.parent.is_some() && now.parent != Some(parent), "{:?}", now.parent);
}

#[test]
fn an_exec_is_seen_at_the_next_pass_by_whom_it_matters_to() {
    // It is old by the time that it execs, as far as this table knows.
    let mut command = Command::new("sh");
    command.args(["-c", "read go; exec sleep 1054"]).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let held = KillOnDrop(id_of(&child));
    let mut table = table();
    seen(&mut table, held.0, "sh");
    table.soon.clear();
    drop(child.stdin.take());
    eventually("its exec", || {
        table.soon.clear();
        table.pass(|process| process.id == held.0).unwrap();
        get(&table, held.0.pid).filter(|it| it.argv == ["sleep", "1054"]).map(drop)
    });
    drop(held);
    child.wait().unwrap();
}

#[test]
fn another_users_environment_is_unknown_unless_we_are_root() {
    let mut table = table();
    table.pass(|_| false).unwrap();
    let Some(first) = Pid::new(1).and_then(|pid| get(&table, pid)) else { return };
    if effective_uid() != 0 && first.user != effective_uid() {
        assert!(first.environment.known().is_none() && first.exe.is_none());
    }
    assert_eq!(table.unseen(), None);
}
