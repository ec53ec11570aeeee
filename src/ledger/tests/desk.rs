//! A disk that does not answer.

use super::support::*;
use crate::ledger::ask::{Answer, Desk};
use crate::model::{LedgerBook, Question};
use std::sync::mpsc::channel;
use std::time::Duration;

#[test]
fn a_reading_that_does_not_come_back_is_given_up_on_and_no_second_one_is_started() {
    let (release, stalled) = channel::<()>();
    let source = stepwise("/nowhere".as_ref());
    let question = Question::default();
    let answer = || Answer { path: "/nowhere".into(), user: 0, book: Ok(LedgerBook::default()) };
    let mut desk = Desk::default();
    let first = desk.ask_by(&source, &question, NOW, Duration::from_millis(20), move |_, _| {
        let _ = stalled.recv();
        answer()
    });
    assert!(first.book.unwrap_err().contains("stalled"));
    let second = desk.ask_by(&source, &question, NOW, Duration::ZERO, |_, _| unreachable!("a second reading"));
    let why = second.book.unwrap_err();
    assert!(why.contains("has not come back"), "{why}");
    drop(release);
    let third = crate::os::testing::eventually("the disk", || {
        let patience = Duration::from_secs(10);
        desk.ask_by(&source, &question, NOW, patience, move |_, _| answer()).book.ok()
    });
    assert_eq!(third, LedgerBook::default());
}

#[test]
fn a_reader_that_breaks_down_is_unknown() {
    let mut desk = Desk::default();
    let patience = Duration::from_secs(10);
    let answer =
        desk.ask_by(&stepwise("/nowhere".as_ref()), &Question::default(), NOW, patience, |_, _| panic!("on purpose"));
    assert!(answer.book.unwrap_err().contains("broke down"));
    assert!(!desk.is_busy());
}
