//! A directory with a file for each job.

use super::support::*;
use crate::ledger::{Readers, Source};
use crate::model::{Fields, JobLife, LedgerType, Question, Time};
use std::fs;
use std::path::{Path, PathBuf};

fn jobs(dir: &Path) -> Source {
    source(LedgerType::Files, dir)
}

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        fs::write(dir.join(name), text).unwrap();
    }
}

#[test]
fn json_and_yaml_say_the_same() {
    let (_scratch, dir) = scratch();
    write(
        &dir,
        &[
            (
                "a.json",
                r#"{"id": "one", "state": "Running", "pid": 501, "pgid": 501, "session": "s", "startTime": 1795426260.5}"#,
            ),
            (
                "b.yaml",
                "state: Done\npid: '502'\nstartTime: 2026-11-23T09:31:00.5+00:00\nendTime: 1795426260500\ncommand: claude -p\n",
            ),
            ("c.yml", "id: 3\nstate: canceled\npid: 503\n"),
            (".hidden.json", "nothing"),
            ("notes.txt", "nothing"),
        ],
    );
    let question =
        Question { sessions: ["s".to_owned()].into(), jobs: ["3".to_owned(), "4".to_owned()].into(), ..about([502]) };
    let book = known(read(&jobs(&dir), &question));
    assert_eq!(book.unreadable, Vec::<String>::new());
    let [one, b] = book.claims.as_slice() else { panic!("{book:?}") };
    let time = Some(Time(1_795_426_260_500));
    assert_eq!(
        (one.job.as_str(), one.pid, one.group, one.started_at, one.until),
        ("one", Some(pid(501)), Some(pid(501)), time, None)
    );
    assert_eq!(
        (b.job.as_str(), b.pid, b.started_at, b.until, b.command.as_deref()),
        ("b", Some(pid(502)), time, time, Some("claude -p"))
    );
    let lives: Vec<_> = book.jobs.into_iter().collect();
    assert_eq!(
        lives,
        [
            ("3".into(), JobLife::Terminal("canceled".into())),
            ("b".into(), JobLife::Terminal("Done".into())),
            ("one".into(), JobLife::Active("Running".into())),
        ]
    );
}

#[test]
fn fields_may_have_other_names_and_be_inside() {
    let (_scratch, dir) = scratch();
    write(
        &dir,
        &[
            ("a.json", r#"{"metadata": {"name": "one"}, "closed": true, "proc": {"root": 501}}"#),
            ("b.json", r#"{"metadata.name": "two", "closed": false, "proc": {"root": 501}}"#),
        ],
    );
    let fields = Fields {
        id: "metadata.name".into(),
        state: "closed".into(),
        terminal: vec!["TRUE".into()],
        pid: "proc.root".into(),
        ..Fields::default()
    };
    let book = known(read(&Source { fields, ..jobs(&dir) }, &about([501])));
    assert_eq!(lives(&book, 501), ["one: terminal true".to_owned(), "two: active false".to_owned()].into());
}

#[test]
fn what_is_half_written_or_odd_is_unreadable_and_a_doubt_is_no_end() {
    let (_scratch, dir) = scratch();
    write(
        &dir,
        &[
            ("half.json", r#"{"id": "half", "state": "done", "pid": 50"#),
            ("half.yaml", "id: half\nstate: done\npid: 50"),
            ("tabs.yaml", "a:\n\t- b\n"),
            ("list.json", "[]"),
            ("empty.yaml", ""),
            ("id.json", r#"{"id": {}}"#),
            ("zero.json", r#"{"state": "running", "pid": 0}"#),
            ("zero-done.json", r#"{"state": "done", "pid": 0}"#),
            ("minus.json", r#"{"state": "done", "pid": 601, "pgid": -1}"#),
            ("time.json", r#"{"state": "done", "pid": 602, "startTime": "yesterday"}"#),
            ("state.json", r#"{"pid": 603}"#),
            ("twice.json", r#"{"id": "twice", "state": "done", "pid": 604}"#),
            ("twice.yaml", "id: twice\nstate: running\n"),
        ],
    );
    fs::write(dir.join("bytes.json"), [0xff, 0xfe]).unwrap();
    fs::create_dir(dir.join("directory.json")).unwrap();
    let book = known(read(&jobs(&dir), &about([50, 601, 602, 603, 604])));
    let names: Vec<&str> = book.unreadable.iter().map(|line| line.split(": ").next().unwrap()).collect();
    let expected = [
        "bytes.json",
        "directory.json",
        "empty.yaml",
        "half.json",
        "half.yaml",
        "id.json",
        "list.json",
        "tabs.yaml",
        "zero.json",
    ];
    assert_eq!(names, expected, "{:?}", book.unreadable);
    for (number, expected) in
        [(601, "minus: terminal done"), (602, "time: unknown"), (603, "state: unknown"), (604, "twice: active running")]
    {
        assert_eq!(lives(&book, number), [expected.to_owned()].into());
    }
}

#[test]
fn a_later_look_sees_what_changed() {
    let (_scratch, dir) = scratch();
    let mut readers = Readers::new();
    let mut look = || lives(&known(readers.read(&jobs(&dir), &about([501]), NOW)), 501);
    let none = look();
    assert!(none.is_empty());
    for (text, expected) in [
        (r#"{"state": "running", "pid": 501}"#, "a: active running"),
        // As long, in the same file, within the same moment.
        (r#"{"state": "aborted", "pid": 501}"#, "a: terminal aborted"),
        (r#"{"state": "running", "pid": 501}"#, "a: active running"),
    ] {
        write(&dir, &[("a.json", text)]);
        assert_eq!(look(), [expected.to_owned()].into());
    }
    fs::remove_file(dir.join("a.json")).unwrap();
    assert_eq!(look(), none);
}

#[test]
fn a_directory_that_is_gone_or_none_is_unknown() {
    let (_scratch, dir) = scratch();
    write(&dir, &[("file", "")]);
    let because = |path: PathBuf| why(read(&jobs(&path), &about([1])));
    assert!(because(dir.join("gone")).contains("is gone"));
    assert!(because(dir.join("file")).contains("is not a directory"));
}
