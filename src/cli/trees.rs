//! How trees that we did not start are shown: as rows, as trees, as JSON; and what is said about them. Pure.

use super::console::{Tone, one_line, paint};
use super::table::{self, Cell};
use super::text::{age, bytes};
use crate::act::foreign::Look;
use crate::model::{ForeignOwner, ForeignTree, ForeignVerdict, HostProcess, Pid, ProcId, Reading, Time};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How many owners are named in a cell.
const OWNERS: usize = 2;

/// The name of a user, or its number.
pub type UserName<'f> = &'f dyn Fn(u32) -> String;

/// The memory of a tree: proportional where that is known.
pub fn memory(tree: &ForeignTree) -> u64 {
    tree.pss_bytes.unwrap_or(tree.rss_bytes)
}

/// The same as text. What is only known with shared pages in each process that has them says so.
fn memory_text(tree: &ForeignTree) -> String {
    if tree.pss_bytes.is_some() { bytes(memory(tree)) } else { format!("{}(rss)", bytes(memory(tree))) }
}

/// The heads of the table.
pub fn heads(wide: bool) -> Vec<&'static str> {
    let narrow = ["PID", "KIND", "AGE", "USER", "PROCS", "MEMORY", "OWNER", "VERDICT", "EVIDENCE"];
    let more: &[_] = if wide { &["CAUSE", "LEDGER", "COMMAND"] } else { &[] };
    narrow.iter().chain(more).copied().collect()
}

/// The row of a tree.
pub fn row(tree: &ForeignTree, wide: bool, now: Time, user: UserName<'_>) -> Vec<Cell> {
    let mut row = vec![
        tree.root.pid.to_string().into(),
        tree.class.clone().into(),
        age(now.since(tree.started_at)).into(),
        user(tree.user).into(),
        tree.processes.len().to_string().into(),
        memory_text(tree).into(),
        owners(&tree.owners).into(),
        Cell::toned(word(tree.verdict), tone(tree.verdict)),
        tree.evidence.clone().into(),
    ];
    if wide {
        let mut ledgers: Vec<&str> = tree.owners.iter().map(|owner| owner.ledger.as_str()).collect();
        ledgers.dedup();
        row.extend([format!("{:?}", tree.cause).into(), ledgers.join(",").into(), tree.command.clone().into()]);
    }
    row
}

fn word(verdict: ForeignVerdict) -> &'static str {
    match verdict {
        ForeignVerdict::Keep => "Keep",
        ForeignVerdict::Reap => "Reap",
        ForeignVerdict::Unknown => "Unknown",
    }
}

fn tone(verdict: ForeignVerdict) -> Tone {
    match verdict {
        ForeignVerdict::Keep => Tone::Good,
        ForeignVerdict::Reap => Tone::Bad,
        ForeignVerdict::Unknown => Tone::Warn,
    }
}

/// `job-1:failed,job-2:running+3`.
fn owners(all: &[ForeignOwner]) -> String {
    let shown: Vec<String> = all.iter().take(OWNERS).map(|owner| format!("{}:{}", owner.job, owner.state)).collect();
    let rest = all.len().saturating_sub(OWNERS);
    if rest == 0 { shown.join(",") } else { format!("{}+{rest}", shown.join(",")) }
}

/// The table of these trees.
pub fn table(trees: &[&ForeignTree], wide: bool, now: Time, user: UserName<'_>, colour: bool) -> String {
    let rows: Vec<_> = trees.iter().map(|tree| row(tree, wide, now, user)).collect();
    table::render(&heads(wide), &rows, colour)
}

/// Each tree with its processes, a line each, below those that started them.
pub fn forest(trees: &[&ForeignTree], look: &Look, user: UserName<'_>, colour: bool) -> String {
    let none = BTreeMap::new();
    let processes = look.census.processes.known().unwrap_or(&none);
    let mut text = String::new();
    for tree in trees {
        let verdict = paint(colour, tone(tree.verdict), word(tree.verdict));
        let (head, user) = (paint(colour, Tone::Bold, &tree.class), user(tree.user));
        let memory = memory_text(tree);
        text.push_str(&format!("{head}, {user}, {memory}: {verdict}, {}\n", one_line(&tree.evidence)));
        for id in &tree.processes {
            let Some(process) = processes.get(&id.pid).filter(|process| process.id == *id) else { continue };
            text.push_str(&line(process, depth(process, tree, processes)));
        }
    }
    text
}

fn line(process: &HostProcess, depth: usize) -> String {
    let command = if process.argv.is_empty() { format!("[{}]", process.name) } else { process.argv.join(" ") };
    let memory = process.pss_bytes.map_or_else(|| format!("{}(rss)", bytes(process.rss_bytes)), bytes);
    let branch = if depth == 0 { String::new() } else { format!("{}└ ", "  ".repeat(depth - 1)) };
    format!("  {:>7}  {memory:>10}  {branch}{}\n", process.id.pid.get(), one_line(&command))
}

/// How many members of the tree are above this one.
fn depth(process: &HostProcess, tree: &ForeignTree, processes: &BTreeMap<Pid, HostProcess>) -> usize {
    let is_member = |id: ProcId| tree.processes.contains(&id);
    let above = |it: &HostProcess| it.parent.and_then(|pid| processes.get(&pid)).filter(|above| is_member(above.id));
    let mut depth = 0;
    let mut next = above(process);
    while let Some(parent) = next {
        depth += 1;
        // Parents that were read one after the other may form a ring.
        next = if depth < tree.processes.len() { above(parent) } else { None };
    }
    depth
}

/// A tree as a program reads it.
pub fn json(tree: &ForeignTree, user: UserName<'_>) -> Value {
    let pids: Vec<Pid> = tree.processes.iter().map(|id| id.pid).collect();
    json!({
        "pid": tree.root.pid,
        "class": tree.class,
        "command": tree.command,
        "user": user(tree.user),
        "startTime": tree.started_at,
        "pids": pids,
        "rssBytes": tree.rss_bytes,
        "pssBytes": tree.pss_bytes,
        "owners": tree.owners,
        "verdict": tree.verdict,
        "cause": tree.cause,
        "evidence": tree.evidence,
    })
}

/// What could come back, in a sentence.
pub fn total(trees: &[ForeignTree]) -> String {
    let of = |verdict| trees.iter().filter(move |tree| tree.verdict == verdict);
    let (leaked, unknown) = (of(ForeignVerdict::Reap).count(), of(ForeignVerdict::Unknown).count());
    let amount = bytes(of(ForeignVerdict::Reap).map(memory).sum());
    let reap = match leaked {
        0 => "none to be reaped".to_owned(),
        _ => format!("{leaked} to be reaped, {amount} would come back"),
    };
    let unsure = if unknown == 0 { String::new() } else { format!("; of {unknown} nobody can tell") };
    format!("{}: {reap}{unsure}", trees_text(trees.len()))
}

/// `1 tree`, `3 trees`.
pub fn trees_text(count: usize) -> String {
    format!("{count} tree{}", if count == 1 { "" } else { "s" })
}

/// What could not be seen or read, a line each.
pub fn notes(look: &Look) -> Vec<String> {
    let mut notes = Vec::new();
    for read in &look.ledgers {
        match &read.book {
            Reading::Unknown(why) => notes.push(format!("ledger {}: {why}; its trees are kept", read.name)),
            Reading::Known(book) => {
                notes.extend(book.unreadable.iter().map(|entry| format!("ledger {}: {entry}", read.name)));
            }
        }
    }
    notes.extend(look.unseen.iter().cloned());
    let others = look.trees.iter().filter(|tree| tree.user != look.census.user).count();
    if look.census.user != 0 && others > 0 {
        notes.push(format!("{} belong to other users: run it as root to judge them", trees_text(others)));
    }
    notes.iter().map(|note| format!("note: {}", one_line(note))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::Terms;
    use crate::model::{BootId, Census, ForeignCause, LedgerBook, LedgerRead, LedgerType, StartTime};

    const NOW: Time = Time(1_767_225_600_000);

    fn id(pid: i32) -> ProcId {
        ProcId { pid: Pid::new(pid).unwrap(), start: StartTime(1) }
    }

    fn process(pid: i32, parent: i32, words: &[&str]) -> HostProcess {
        HostProcess {
            id: id(pid),
            parent: Pid::new(parent),
            group: None,
            session: None,
            has_terminal: false,
            user: 1000,
            state: 'S',
            started_at: NOW,
            name: "thread".into(),
            exe: None,
            argv: words.iter().map(|word| (*word).to_owned()).collect(),
            environment: Reading::Known(BTreeMap::new()),
            rss_bytes: 3_000_000,
            pss_bytes: (pid != 30).then_some(1_000_000),
        }
    }

    fn tree(pids: &[i32], verdict: ForeignVerdict, cause: ForeignCause, pss: Option<u64>) -> ForeignTree {
        ForeignTree {
            root: id(pids[0]),
            class: "claude".into(),
            command: "npm exec claude-agent-acp".into(),
            user: 1000,
            started_at: Time(NOW.0 - 200_000),
            processes: pids.iter().map(|pid| id(*pid)).collect(),
            others_below: Vec::new(),
            rss_bytes: 900_000_000,
            pss_bytes: pss,
            owners: Vec::new(),
            verdict,
            cause,
            evidence: "its jobs\nhave ended".into(),
            again_at: None,
        }
    }

    fn look() -> Look {
        let mut leaked = tree(&[10, 11, 12], ForeignVerdict::Reap, ForeignCause::OwnerTerminal, Some(412_000_000));
        let owner = |job: &str, state: &str| ForeignOwner {
            ledger: "/p/.stepwise/stepwise.db".into(),
            job: job.into(),
            state: state.into(),
        };
        leaked.owners = vec![owner("job-1", "failed"), owner("job-2", "completed"), owner("job-3", "missing")];
        let unknown = tree(&[30], ForeignVerdict::Unknown, ForeignCause::LedgerUnknown, None);
        let processes = [
            process(10, 1, &["npm", "exec", "claude-agent-acp"]),
            process(11, 10, &["node", "x\x1b[2J"]),
            process(12, 11, &[]),
            process(30, 1, &["claude"]),
        ];
        let census = Census {
            as_of: NOW,
            boot_id: BootId("b".into()),
            user: 1001,
            processes: Reading::Known(processes.into_iter().map(|it| (it.id.pid, it)).collect()),
        };
        let read = |book| LedgerRead {
            name: "a".into(),
            r#type: LedgerType::Files,
            path: "/a".into(),
            aliases: std::collections::BTreeSet::new(),
            user: Some(1000),
            as_of: NOW,
            book,
        };
        let partly = LedgerBook { unreadable: vec!["x.json: it is empty".into()], ..LedgerBook::default() };
        let ledgers = vec![read(Reading::Unknown("it is locked".into())), read(Reading::Known(partly))];
        Look { census, ledgers, trees: vec![leaked, unknown], unseen: vec!["not all".into()], terms: Terms::default() }
    }

    fn user(uid: u32) -> String {
        if uid == 1000 { "ann".into() } else { uid.to_string() }
    }

    #[test]
    fn a_table_says_whose_a_tree_is_and_what_is_to_become_of_it() {
        let look = look();
        let trees: Vec<_> = look.trees.iter().collect();
        insta::assert_snapshot!(table(&trees, false, NOW, &user, false), @r"
        PID  KIND    AGE  USER  PROCS  MEMORY      OWNER                           VERDICT  EVIDENCE
        10   claude  3m   ann   3      412MB       job-1:failed,job-2:completed+1  Reap     its jobs have ended
        30   claude  3m   ann   1      900MB(rss)  -                               Unknown  its jobs have ended
        ");
        let wide: Vec<_> = row(trees[0], true, NOW, &user).iter().map(|cell| cell.text().to_owned()).collect();
        assert_eq!(wide[9..], ["OwnerTerminal", "/p/.stepwise/stepwise.db", "npm exec claude-agent-acp"]);
        assert_eq!(wide.len(), heads(true).len());
    }

    #[test]
    fn a_sentence_says_what_could_come_back_and_a_line_what_was_not_seen() {
        let look = look();
        assert_eq!(total(&look.trees), "2 trees: 1 to be reaped, 412MB would come back; of 1 nobody can tell");
        assert_eq!(total(&look.trees[1..]), "1 tree: none to be reaped; of 1 nobody can tell");
        insta::assert_snapshot!(notes(&look).join("\n"), @r"
        note: ledger a: it is locked; its trees are kept
        note: ledger a: x.json: it is empty
        note: not all
        note: 2 trees belong to other users: run it as root to judge them
        ");
    }

    #[test]
    fn a_forest_has_a_line_for_each_process_below_the_one_that_started_it() {
        let look = look();
        let trees: Vec<_> = look.trees.iter().collect();
        insta::assert_snapshot!(forest(&trees, &look, &user, false), @r"
        claude, ann, 412MB: Reap, its jobs have ended
               10       1.0MB  npm exec claude-agent-acp
               11       1.0MB  └ node x[2J
               12       1.0MB    └ [thread]
        claude, ann, 900MB(rss): Unknown, its jobs have ended
               30  3.0MB(rss)  claude
        ");
    }

    #[test]
    fn a_tree_as_json_has_the_names_that_were_promised() {
        let mut leaked = look().trees.remove(0);
        leaked.owners.truncate(1);
        let expected = json!({
            "pid": 10, "class": "claude", "command": "npm exec claude-agent-acp", "user": "ann",
            "startTime": "2025-12-31T23:56:40.000Z", "pids": [10, 11, 12], "rssBytes": 900_000_000,
            "pssBytes": 412_000_000,
            "owners": [{"ledger": "/p/.stepwise/stepwise.db", "job": "job-1", "state": "failed"}],
            "verdict": "Reap", "cause": "OwnerTerminal", "evidence": "its jobs\nhave ended",
        });
        assert_eq!(json(&leaked, &user), expected);
    }
}
