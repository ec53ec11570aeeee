//! Ten leaked and ten healthy trees of five kinds on one host: the right thing is said about all twenty.

use super::*;

/// Leaked trees begin at 1000, healthy ones at 2000; of each kind two.
fn host() -> (Census, Vec<LedgerRead>, Terms) {
    let mut all = vec![
        HostProcess { name: "systemd".to_owned(), ..process(60, 1, &["/lib/systemd/systemd", "--user"]) },
        process(70, 1, &["/usr/bin/code"]),
    ];
    let (mut runs, mut records, mut files) = (Vec::new(), Vec::new(), Vec::new());
    let mut deserted = BTreeSet::new();
    for (base, is_leaked) in [(1000, true), (2000, false)] {
        let job = |name: &str, n: i32| format!("job-{name}{}", base + n);
        for n in 0..2 {
            // An adapter of Stepwise's.
            let first = base + n * 10;
            all.extend(chain(first, 50, &job("s", n)));
            runs.push(run(&job("s", n), first, is_leaked.then(|| ago(200))));
            // What a killed root of one has left.
            let first = base + 100 + n * 10;
            let mut left = chain(first, 50, &job("r", n)).split_off(2);
            left[0].parent = Some(pid(1));
            all.extend(left);
            runs.push(run(&job("r", n), first, is_leaked.then(|| ago(200))));
            // An adapter of acpx's.
            let first = base + 200 + n * 10;
            all.push(process(first, 1, &["npm exec @agentclientprotocol/codex-acp"]));
            all.push(member(first + 1, first, first, &["node", "/x/node_modules/.bin/codex-acp"]));
            records.push(Claim {
                job: job("a", n),
                pid: Some(pid(first)),
                start: Some((BootId::from("boot"), StartTime(u64::try_from(first).unwrap() * 10))),
                command: Some("npx @agentclientprotocol/codex-acp".to_owned()),
                ..Claim::default()
            });
            // A machine of a sandbox's, in a directory of files.
            let first = base + 300 + n * 10;
            all.push(process(first, 70, &["firecracker", "--api-sock", "/run/fc.sock"]));
            files.push(Claim {
                job: job("f", n),
                pid: Some(pid(first)),
                started_at: Some(ago(601)),
                ..Claim::default()
            });
            // Nobody's: one lost its parent and its client, the other is an editor's.
            let first = base + 400 + n * 10;
            let parent = if is_leaked { 60 } else { 70 };
            all.push(process(first, parent, &["node", "/usr/bin/gemini", "--acp"]));
            if is_leaked {
                deserted.insert(ProcId { pid: pid(first), start: StartTime(u64::try_from(first).unwrap() * 10) });
            }
        }
    }
    // And a person's own, in a terminal.
    all.push(HostProcess { has_terminal: true, ..process(3000, 1, &["claude"]) });
    let jobs = |claims: &[Claim]| -> BTreeMap<String, JobLife> {
        let word = |claim: &Claim| if claim.pid.unwrap().get() < 2000 { "failed" } else { "running" };
        claims.iter().map(|claim| (claim.job.clone(), life(word(claim)))).collect()
    };
    let read = |r#type, path, claims: Vec<Claim>| {
        let jobs = jobs(&claims);
        let mut read = ledger(r#type, path, Vec::new(), &[]);
        read.book = Reading::Known(LedgerBook { claims, jobs, unreadable: Vec::new() });
        read
    };
    let ledgers = vec![
        read(LedgerType::Stepwise, STORE_PATH, runs),
        read(LedgerType::Acpx, "/home/u/.acpx", records),
        read(LedgerType::Files, "/srv/vms", files),
    ];
    let orphans = BTreeSet::from(["gemini".to_owned()]);
    (census(all), ledgers, Terms { orphans, deserted, ..terms() })
}

#[test]
fn ten_leaked_trees_of_five_kinds_are_reaped_and_ten_healthy_ones_are_kept() {
    let (census, ledgers, terms) = host();
    let trees = attribute(&census, &Catalogue::built_in(), &ledgers, &terms);
    let said: Vec<String> = trees
        .iter()
        .map(|tree| {
            format!("{} {} {:?} {:?} {}", tree.root.pid, tree.class, tree.verdict, tree.cause, tree.processes.len())
        })
        .collect();
    let expected = [
        "1000 claude Reap OwnerTerminal 4",
        "1010 claude Reap OwnerTerminal 4",
        "1102 claude Reap OwnerTerminal 2",
        "1112 claude Reap OwnerTerminal 2",
        "1200 codex Reap OwnerTerminal 2",
        "1210 codex Reap OwnerTerminal 2",
        "1300 firecracker Reap OwnerTerminal 1",
        "1310 firecracker Reap OwnerTerminal 1",
        "1400 gemini Reap Orphaned 1",
        "1410 gemini Reap Orphaned 1",
        "2000 claude Keep OwnerActive 4",
        "2010 claude Keep OwnerActive 4",
        "2102 claude Keep OwnerActive 2",
        "2112 claude Keep OwnerActive 2",
        "2200 codex Keep OwnerActive 2",
        "2210 codex Keep OwnerActive 2",
        "2300 firecracker Keep OwnerActive 1",
        "2310 firecracker Keep OwnerActive 1",
        "2400 gemini Keep Unowned 1",
        "2410 gemini Keep Unowned 1",
        "3000 claude Keep Interactive 1",
    ];
    assert_eq!(said, expected);
}

#[test]
fn with_every_ledger_unknown_not_one_is_reaped() {
    let (census, mut ledgers, terms) = host();
    for ledger in &mut ledgers {
        ledger.book = Reading::Unknown("stalled disk".to_owned());
    }
    let trees = attribute(&census, &Catalogue::built_in(), &ledgers, &terms);
    assert_eq!(trees.len(), 21);
    assert!(trees.iter().all(|tree| tree.verdict != ForeignVerdict::Reap));
}
