//! A real host, frozen: the verdict on each of its processes is known.

use super::*;
use serde_json::Value;

const PROCESSES: &str = include_str!("../../../tests/data/stepwise-host/processes.json");
const BOOK: &str = include_str!("../../../tests/data/stepwise-host/book.json");
const VERDICTS: &str = include_str!("../../../tests/data/stepwise-host/verdicts.json");

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn number(value: &Value) -> i32 {
    i32::try_from(value.as_i64().unwrap()).unwrap()
}

/// The file has the line; the vector that it was is known for each kind of program.
fn argv(line: &str) -> Vec<String> {
    if line.starts_with("npm exec") {
        return vec![line.to_owned()];
    }
    if let Some(command) = line.strip_prefix("sh -c ") {
        return vec!["sh".to_owned(), "-c".to_owned(), command.to_owned()];
    }
    if let Some((title, rest)) = line.strip_suffix(" 99999").map(|title| (title, "99999")) {
        return vec![title.to_owned(), rest.to_owned()];
    }
    line.split(' ').map(str::to_owned).collect()
}

fn frozen() -> Census {
    let file: Value = serde_json::from_str(PROCESSES).unwrap();
    let all: BTreeMap<Pid, HostProcess> = file["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let raw = number(&one["pid"]);
            let environment = one["env"].as_object().unwrap();
            let environment = environment.iter().filter(|(name, _)| MARKS.contains(&name.as_str()));
            let process = HostProcess {
                id: ProcId { pid: pid(raw), start: StartTime(one["start_ticks"].as_u64().unwrap()) },
                parent: Pid::new(number(&one["ppid"])),
                group: Pid::new(number(&one["pgid"])),
                session: Pid::new(number(&one["sid"])),
                has_terminal: false,
                user: u32::try_from(one["uid"].as_u64().unwrap()).unwrap(),
                state: text(&one["state"]).chars().next().unwrap(),
                started_at: Time((one["start_time"].as_f64().unwrap() * 1000.0) as i64),
                name: text(&one["comm"]),
                exe: one["exe"].as_str().map(str::to_owned),
                argv: argv(one["cmdline"].as_str().unwrap()),
                environment: Reading::Known(environment.map(|(name, value)| (name.clone(), text(value))).collect()),
                rss_bytes: one["rss_kb"].as_u64().unwrap() * 1024,
                pss_bytes: one["pss_kb"].as_u64().map(|kb| kb * 1024),
            };
            (pid(raw), process)
        })
        .collect();
    let latest = all.values().map(|process| process.started_at).max().unwrap();
    Census {
        as_of: latest.after(Duration::from_secs(180)),
        boot_id: BootId::from("lab"),
        user: 4242,
        processes: Reading::Known(all),
    }
}

/// The store of the host, of what was asked.
fn store(question: &Question, as_of: Time) -> LedgerRead {
    let book: Value = serde_json::from_str(BOOK).unwrap();
    let time = |value: &Value| value.as_str().map(|_| serde_json::from_value(value.clone()).unwrap());
    let claims: Vec<Claim> = book["claims"]
        .as_array()
        .unwrap()
        .iter()
        .map(|claim| Claim {
            job: text(&claim["job"]),
            pid: Pid::new(number(&claim["pid"])),
            group: Pid::new(number(&claim["group"])),
            session: claim["session"].as_str().map(str::to_owned),
            started_at: time(&claim["startedAt"]),
            until: time(&claim["until"]),
            in_guest: claim["inGuest"].as_bool().unwrap(),
            ..Claim::default()
        })
        .filter(|claim| {
            claim.pid.is_some_and(|pid| question.pids.contains(&pid))
                || claim.session.as_ref().is_some_and(|session| question.sessions.contains(session))
        })
        .collect();
    let asked = |job: &str| question.jobs.contains(job) || claims.iter().any(|claim| claim.job == job);
    let jobs = book["jobs"].as_object().unwrap();
    let jobs = jobs.iter().filter(|(job, _)| asked(job)).map(|(job, word)| (job.clone(), life(word.as_str().unwrap())));
    let path = "/srv/lab/projA/.stepwise/stepwise.db";
    LedgerRead {
        name: path.to_owned(),
        r#type: LedgerType::Stepwise,
        path: path.to_owned(),
        aliases: BTreeSet::new(),
        user: Some(4242),
        as_of,
        book: Reading::Known(LedgerBook { jobs: jobs.collect(), claims, unreadable: Vec::new() }),
    }
}

fn pids_of(verdicts: &Value, word: &str) -> BTreeSet<i32> {
    verdicts[word].as_array().unwrap().iter().map(number).collect()
}

#[test]
fn the_verdict_on_every_process_of_the_frozen_host_is_the_true_one() {
    let census = frozen();
    let catalogue = Catalogue::built_in();
    let asked = question(&census, &catalogue);
    let ledgers = [store(&asked, census.as_of)];
    let trees = attribute(&census, &catalogue, &ledgers, &terms());
    let reaped: BTreeSet<i32> =
        trees.iter().filter(|tree| tree.verdict == ForeignVerdict::Reap).flat_map(pids).collect();
    let verdicts: Value = serde_json::from_str(VERDICTS).unwrap();
    let (kill, keep, either) = (pids_of(&verdicts, "kill"), pids_of(&verdicts, "keep"), pids_of(&verdicts, "either"));
    assert_eq!(kill.len() + keep.len() + either.len(), 115);
    assert_eq!(kill.difference(&reaped).collect::<Vec<_>>(), Vec::<&i32>::new(), "missed");
    assert_eq!(keep.intersection(&reaped).collect::<Vec<_>>(), Vec::<&i32>::new(), "wrongly reaped");
    assert!(reaped.iter().all(|pid| kill.contains(pid) || either.contains(pid)));
}

#[test]
fn the_roots_owners_and_causes_of_the_frozen_host_are_those_of_its_scenarios() {
    let census = frozen();
    let catalogue = Catalogue::built_in();
    let asked = question(&census, &catalogue);
    let trees = attribute(&census, &catalogue, &[store(&asked, census.as_of)], &terms());
    let verdicts: Value = serde_json::from_str(VERDICTS).unwrap();
    for group in verdicts["groups"].as_array().unwrap() {
        let scenario = group["scenario"].as_str().unwrap();
        if matches!(scenario, "decoy") {
            assert!(!trees.iter().any(|tree| tree.root.pid == pid(30319)), "a `tail` is no agent");
            continue;
        }
        for root in group["roots"].as_array().unwrap() {
            let tree = tree_of(&trees, number(root));
            assert_eq!(tree.class, "claude", "{scenario}");
            let is_reaped = tree.verdict == ForeignVerdict::Reap;
            assert_eq!(is_reaped, group["verdict"] == "kill", "{scenario}: {tree:#?}");
            if is_reaped {
                let of_jobs = group["jobs"].as_array().unwrap();
                let named = |owner: &ForeignOwner| of_jobs.iter().any(|job| job["id"] == owner.job.as_str());
                assert!(!tree.owners.is_empty() && tree.owners.iter().all(named), "{scenario}: {tree:#?}");
            }
        }
    }
    let cause = |root| tree_of(&trees, root).cause;
    assert_eq!(cause(1941), ForeignCause::OwnerMissing);
    assert_eq!(cause(27855), ForeignCause::OwnerActive);
    assert_eq!(cause(26604), ForeignCause::Disagreement);
    assert_eq!(cause(30232), ForeignCause::Unowned);
    assert_eq!(cause(30288), ForeignCause::LedgerUnknown);
    assert_eq!(
        tree_of(&trees, 14623).evidence,
        "job-696905a2 is failed (stepwise /srv/lab/projA/.stepwise/stepwise.db), its run ended 3m 58s ago; claude 14623 still holds 4 processes"
    );
    assert_eq!(tree_of(&trees, 29349).owners.len(), 2);
}

#[test]
fn the_frozen_host_names_its_stores() {
    let stores = stores(&frozen(), &Catalogue::built_in());
    let paths: Vec<&str> = stores.iter().map(|store| store.path.as_str()).collect();
    assert_eq!(paths, ["/srv/lab/projA/.stepwise/stepwise.db", "/srv/lab/projB/.stepwise/stepwise.db"]);
    assert!(stores.iter().all(|store| store.user == 4242 && store.r#type == LedgerType::Stepwise));
}

#[test]
fn a_store_that_is_locked_reaps_nothing_of_the_frozen_host() {
    let census = frozen();
    let catalogue = Catalogue::built_in();
    let asked = question(&census, &catalogue);
    let mut locked = store(&asked, census.as_of);
    locked.book = Reading::Unknown("locked by its writer".to_owned());
    let trees = attribute(&census, &catalogue, &[locked], &terms());
    assert!(trees.iter().all(|tree| tree.verdict != ForeignVerdict::Reap));
    assert_eq!(tree_of(&trees, 14623).cause, ForeignCause::LedgerUnknown);
}
