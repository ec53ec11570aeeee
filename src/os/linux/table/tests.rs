//! The table on real processes.

use super::*;
use crate::os::MARK;
use crate::os::testing::{KillOnDrop, eventually, id_of, kill, subreaper};
use std::process::{Command, Stdio};

#[test]
fn a_host_where_nothing_ends_comes_to_rest() {
    let mut table = ProcessTable::new();
    // Kernel threads and processes that wait to be collected are there for good.
    let mut ended = subreaper("exec true").spawn().unwrap();
    eventually("a pass that nothing vanished from", || (table.refresh().unwrap().vanished == 0).then_some(()));
    let id = id_of(&ended);
    eventually("its end", || {
        table.refresh().unwrap();
        table.get(id.pid).is_some_and(Process::is_zombie).then_some(())
    });
    ended.wait().unwrap();
    eventually("its leaving", || {
        table.refresh().unwrap();
        table.get(id.pid).is_none().then_some(())
    });
}

#[test]
fn who_lost_its_parent_is_read_again() {
    let mut table = ProcessTable::new();
    let mut command = subreaper("sh -c 'sleep 1020 & wait' & wait; exec sleep 1021");
    let mut top = command.env(MARK, "test/lost-its-parent").spawn().unwrap();
    let top_id = id_of(&top);
    let _top = KillOnDrop(top_id);
    let sleeper = |table: &mut ProcessTable| {
        table.refresh().unwrap();
        table.iter().find(|it| it.command() == "sleep 1020").cloned()
    };
    let before = eventually("the sleeper", || sleeper(&mut table));
    let _sleeper = KillOnDrop(before.id);
    let middle = table.get(before.parent.unwrap()).unwrap().id;
    assert_ne!(middle, top_id);
    kill(middle);
    eventually("its new parent", || sleeper(&mut table).filter(|it| it.parent == Some(top_id.pid)));
    kill(top_id);
    kill(before.id);
    top.wait().unwrap();
}

fn sleeper(script: &str, mark: Option<&str>) -> (std::process::Child, KillOnDrop) {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env_remove(MARK).stdin(Stdio::null()).stdout(Stdio::null());
    if let Some(mark) = mark {
        command.env(MARK, mark);
    }
    let child = command.spawn().unwrap();
    let id = id_of(&child);
    (child, KillOnDrop(id))
}

#[test]
fn an_old_process_that_becomes_marked_is_noticed_within_a_minute() {
    let scratch = tempfile::tempdir().unwrap();
    let gate = scratch.path().join("gate");
    let script =
        format!("while [ ! -e {0} ]; do sleep 0.05; done; exec env {MARK}=test/late sleep 1022", gate.display());
    let (mut child, held) = sleeper(&script, None);
    let mut table = ProcessTable::new();
    let mut now = since_boot() + YOUNG * 2;
    // It is no longer young by the clock that the table is given.
    table.refresh_at(now).unwrap();
    std::fs::write(&gate, "").unwrap();
    eventually("its exec", || {
        std::fs::read(format!("/proc/{}/cmdline", held.0.pid)).unwrap().starts_with(b"sleep\x001022").then_some(())
    });
    let begun = now;
    while table.get(held.0.pid).unwrap().mark.is_none() {
        now += Duration::from_secs(7);
        assert!(now <= begun + Duration::from_secs(63), "not read again in a minute");
        table.refresh_at(now).unwrap();
    }
    assert_eq!(table.get(held.0.pid).unwrap().command(), "sleep 1022");
    drop(held);
    child.wait().unwrap();
}

#[test]
fn of_those_that_nobody_asked_for_no_command_line_is_kept() {
    let (mut child, held) = sleeper("exec sleep 1023", None);
    let pid = held.0.pid;
    let mut table = ProcessTable::new();
    table.refresh().unwrap();
    assert!(table.get(pid).unwrap().kept.is_none());
    eventually("its exec", || (table.again(pid).unwrap().unwrap().command() == "sleep 1023").then_some(()));
    // Nobody asks any more: two readings later it is dropped.
    let mut now = since_boot() + YOUNG * 2;
    for _ in 0..3 {
        now += crate::os::linux::turns::PERIOD;
        table.refresh_at(now).unwrap();
    }
    assert!(table.get(pid).unwrap().kept.is_none());
    drop(held);
    child.wait().unwrap();
}

#[test]
fn the_indexes_say_what_a_walk_over_all_says() {
    let (mut child, held) = sleeper("sleep 1024 & sleep 1025 & wait", Some("test/indexes"));
    let mut table = ProcessTable::new();
    let agree = |table: &ProcessTable| {
        let marked: BTreeSet<Pid> = table.iter().filter(|it| it.mark.is_some()).map(|it| it.id.pid).collect();
        assert_eq!(table.marked().map(|it| it.id.pid).collect::<BTreeSet<_>>(), marked);
        let pairs: BTreeSet<_> = table.iter().filter_map(|it| Some((it.parent?, it.id.pid))).collect();
        assert_eq!(table.children, pairs);
    };
    let children = eventually("its children", || {
        table.refresh().unwrap();
        agree(&table);
        let children: Vec<ProcId> = table.children(held.0.pid).map(|it| it.id).collect();
        (children.len() == 2).then_some(children)
    });
    for id in children {
        kill(id);
        assert!(table.again(id.pid).unwrap().is_none_or(Process::is_zombie));
        agree(&table);
    }
    let pid = held.0.pid;
    drop(held);
    child.wait().unwrap();
    assert!(table.again(pid).unwrap().is_none());
    agree(&table);
    table.refresh().unwrap();
    agree(&table);
}

#[test]
fn what_no_pass_has_listed_is_found_by_its_number_and_by_its_parent() {
    let mut table = ProcessTable::new();
    table.refresh().unwrap();
    let (mut child, held) = sleeper("sleep 1026 & wait", None);
    let pid = held.0.pid;
    assert!(table.get(pid).is_none());
    assert_eq!(table.find(pid).unwrap().map(|it| it.id), Some(held.0));
    let below = eventually("its child", || table.children_now(pid).unwrap().first().copied());
    let id = table.get(below).unwrap().id;
    let _below = KillOnDrop(id);
    assert_eq!(table.children(pid).map(|it| it.id.pid).collect::<Vec<_>>(), [below]);
    table.refresh().unwrap();
    assert_eq!(table.get(below).map(|it| it.id), Some(id));
    kill(held.0);
    child.wait().unwrap();
    assert!(table.find(Pid::new(i32::MAX).unwrap()).unwrap().is_none());
    assert!(table.again(pid).unwrap().is_none());
    assert!(table.find(pid).unwrap().is_none());
    // Its parent is gone, and no list was needed to see that.
    table.catch_up().unwrap();
    assert_ne!(table.get(below).unwrap().parent, Some(pid));
}

/// As root, the next pid can be chosen.
#[test]
fn a_pid_that_was_used_again_is_another_process() {
    let mut table = ProcessTable::new();
    for _ in 0..20 {
        let (mut first, held) = sleeper("exec sleep 1027", Some("test/before"));
        let old = held.0;
        eventually("the first", || {
            table.refresh().unwrap();
            table.get(old.pid).is_some_and(|it| it.mark.is_some()).then_some(())
        });
        drop(held);
        first.wait().unwrap();
        if std::fs::write("/proc/sys/kernel/ns_last_pid", (old.pid.get() - 1).to_string()).is_err() {
            return; // not root
        }
        let (mut next, held) = sleeper("exec sleep 1028", None);
        let new = held.0;
        if new.pid == old.pid && new.start != old.start {
            assert!(table.refresh().unwrap().vanished >= 1);
            let seen = table.get(new.pid).unwrap();
            assert_eq!((seen.id, &seen.mark), (new, &None));
            assert!(table.marked().all(|it| it.id.pid != new.pid));
        }
        drop(held);
        next.wait().unwrap();
        if new.pid == old.pid && new.start != old.start {
            return;
        }
    }
    panic!("no pid was ever given out again");
}
