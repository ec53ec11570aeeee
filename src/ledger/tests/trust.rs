//! What root does not believe. Who root is, is an argument; who owns the files is whoever runs the tests.

use super::support::*;
use crate::ledger::trust::{Trust, place};
use crate::ledger::{Source, SourceError, acpx_home};
use crate::model::{Fields, LedgerSpec, LedgerType};
use crate::os::effective_uid;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

fn refusal(path: &Path, trust: Trust, mode: u32) -> Option<String> {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    trust.refuse(path, &fs::symlink_metadata(path).unwrap()).err()
}

#[test]
fn root_believes_nobody_but_root_and_the_user_that_was_named() {
    let (_scratch, dir) = scratch();
    let (file, me) = (dir.join("file"), effective_uid());
    fs::write(&file, "").unwrap();
    let named = Trust { me: 0, user: Some(me) };
    assert_eq!(refusal(&file, named, 0o644), None);
    assert_eq!(refusal(&dir, named, 0o1777), None, "nobody replaces what is not theirs");
    for (path, mode) in [(&file, 0o646), (&file, 0o1646), (&dir, 0o777)] {
        let why = refusal(path, named, mode).unwrap();
        assert!(why.starts_with("refused: ") && why.contains("may be written by others"), "{why}");
        assert_eq!(refusal(path, Trust { me: 4242, user: None }, mode), None, "who is not root kills only their own");
    }
    let unnamed = refusal(&file, Trust { me: 0, user: None }, 0o644);
    assert_eq!(unnamed.is_some(), me != 0, "{unnamed:?}");
    if me == 0 {
        std::os::unix::fs::chown(&file, Some(4242), None).unwrap();
        let why = refusal(&file, Trust { me: 0, user: Some(4243) }, 0o644).unwrap();
        assert!(why.contains("belongs to user 4242") && why.contains("the Ledger's `user`"), "{why}");
        assert_eq!(refusal(&file, Trust { me: 0, user: Some(4242) }, 0o644), None);
    }
}

#[test]
fn every_directory_above_a_ledger_counts_for_root_and_so_does_a_link() {
    let (_scratch, dir) = scratch();
    let inner = dir.join("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("file"), "").unwrap();
    symlink(&inner, dir.join("link")).unwrap();
    let of = |path: &Path| Source { user: Some(effective_uid()), ..stepwise(path) };
    let by_root = |path: &Path| place(&of(path), 0).map(|place| place.user);
    // Where the scratch directory is, is the host's choice; it may be one that root does not believe.
    if by_root(&dir).is_ok() {
        assert_eq!(by_root(&inner.join("file")), Ok(effective_uid()));
        fs::set_permissions(&inner, Permissions::from_mode(0o777)).unwrap();
        let why = by_root(&inner.join("file")).unwrap_err();
        assert!(why.contains("/inner may be written by others"), "{why}");
        fs::set_permissions(&inner, Permissions::from_mode(0o755)).unwrap();
    }
    let why = by_root(&dir.join("link/file")).unwrap_err();
    assert!(why.contains("leads over a link to"), "{why}");
    assert_eq!(place(&of(&dir.join("link/file")), 4242).unwrap().path, inner.join("file"));
    assert!(by_root(&dir.join("gone")).unwrap_err().contains("is gone"));
}

#[test]
fn a_spec_that_makes_no_sense_is_refused_in_words() {
    let good = LedgerSpec { r#type: Some(LedgerType::Files), path: "/jobs".into(), ..LedgerSpec::default() };
    let source = Source::of("jobs", &good).unwrap();
    assert_eq!((source.path.as_path(), source.user), (Path::new("/jobs"), None));
    assert_eq!(Source::of("jobs", &LedgerSpec { user: Some("4242".into()), ..good.clone() }).unwrap().user, Some(4242));
    assert_eq!(Source::of("jobs", &LedgerSpec { user: Some("root".into()), ..good.clone() }).unwrap().user, Some(0));
    let with = |fields: Fields| LedgerSpec { fields, ..good.clone() };
    type Expected = fn(&SourceError) -> bool;
    let cases: [(LedgerSpec, Expected); 5] = [
        (LedgerSpec { r#type: None, ..good.clone() }, |error| matches!(error, SourceError::NoType)),
        (LedgerSpec { path: "jobs".into(), ..good.clone() }, |error| matches!(error, SourceError::Path(_))),
        (LedgerSpec { user: Some("no such user".into()), ..good.clone() }, |error| {
            matches!(error, SourceError::User(_))
        }),
        (with(Fields { pid: String::new(), ..Fields::default() }), |error| matches!(error, SourceError::Field("pid"))),
        (with(Fields { terminal: Vec::new(), ..Fields::default() }), |error| matches!(error, SourceError::NoTerminal)),
    ];
    for (spec, is_expected) in cases {
        let error = Source::of("jobs", &spec).unwrap_err();
        assert!(is_expected(&error), "{spec:?}: {error}");
    }
}

#[test]
fn acpx_is_found_in_a_home_that_has_it() {
    let (_scratch, dir) = scratch();
    assert_eq!(acpx_home(&dir), None);
    fs::create_dir_all(dir.join(".acpx/sessions")).unwrap();
    assert_eq!(acpx_home(&dir).unwrap().path, dir.join(".acpx"));
}
