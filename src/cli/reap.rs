//! `tenure reap`: ends the trees that `tenure scan` shows as leaked, after asking.

use super::console::{Console, Tone, one_line};
use super::failure::{Done, Exit, Failure};
use super::lookout::{Options, Settings};
use super::scan::{by_memory, unseen};
use super::text::bytes;
use super::trees;
use crate::act::foreign::{Look, Outcome, Stopping, never, stop};
use crate::model::{ForeignTree, ForeignVerdict, Pid, Reading};
use crate::os::user_name;
use std::io::{BufRead, IsTerminal};
use std::path::Path;

/// End the trees that `scan` shows with the verdict Reap, after asking
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the trees that these processes belong to
    #[arg(value_name = "PID", value_parser = pid)]
    pids: Vec<Pid>,
    /// Do not ask
    #[arg(short, long, conflicts_with = "dry_run")]
    yes: bool,
    /// Only show what would be ended
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    options: Options,
}

fn pid(text: &str) -> Result<Pid, String> {
    text.parse().ok().and_then(Pid::new).ok_or_else(|| format!("`{text}` is not a process id"))
}

pub async fn main(args: Args, state: Option<&Path>, console: &mut Console) -> Done {
    let mut settings = Settings::read(state).await;
    if let Some(unread) = settings.unread.take() {
        // It may protect what would be ended.
        return Err(unread);
    }
    let rules = settings.rules(&args.options)?;
    let mut lookout = settings.lookout(&args.options)?;
    let look = Settings::look(&mut lookout, &rules, console.now).await;
    if let Reading::Unknown(why) = &look.census.processes {
        return Err(unseen(why));
    }
    let mut chosen = choose(&look, &args.pids)?;
    for note in trees::notes(&look) {
        console.say(&note);
    }
    if chosen.is_empty() {
        console.say("there is nothing to reap");
        return Ok(Exit::Done);
    }
    console.print(&trees::table(&chosen, false, look.census.as_of, &user_name, console.colour))?;
    let budget = settings.budget();
    let held_back = chosen.len().saturating_sub(budget);
    chosen.truncate(budget);
    let amount = bytes(chosen.iter().map(|tree| trees::memory(tree)).sum());
    if args.dry_run {
        console.line(&format!("{} would be ended, {amount} would come back", trees::trees_text(chosen.len())))?;
        say_held_back(held_back, budget, console);
        return Ok(Exit::Done);
    }
    say_held_back(held_back, budget, console);
    if !args.yes && !asked(&format!("End {} ({amount})?", trees::trees_text(chosen.len())), console)? {
        console.say("nothing was done");
        return Ok(Exit::Done);
    }
    let never = never(rules.protect.clone()).map_err(|error| Failure::failed(error.to_string()))?;
    let mut stopping: Vec<Stopping> =
        chosen.iter().map(|tree| Stopping::new(tree, settings.grace(&tree.class))).collect();
    let now = console.now;
    let fresh = || {
        let look = lookout.look(&rules, now());
        (look.census, look.trees)
    };
    stop(&mut stopping, &never, fresh).await;
    let exit = report(&chosen, &stopping, console)?;
    Ok(if held_back > 0 { Exit::Failed } else { exit })
}

/// The trees that are to go, the largest first; of those that the pids name, if there are any.
fn choose<'l>(look: &'l Look, pids: &[Pid]) -> Result<Vec<&'l ForeignTree>, Failure> {
    let mut chosen = by_memory(&look.trees);
    for pid in pids {
        let of = chosen.iter().find(|tree| has(tree, *pid));
        let tree = of.ok_or_else(|| {
            Failure::not_found(format!("process {pid} is not in a tree of an agent"))
                .help("`tenure scan` shows what there is")
        })?;
        if tree.verdict != ForeignVerdict::Reap {
            let why = format!("{} {} is kept: {}", tree.class, tree.root.pid, one_line(&tree.evidence));
            return Err(Failure::failed(why).help("only what `tenure scan` shows with the verdict Reap is ended"));
        }
    }
    chosen.retain(|tree| tree.verdict == ForeignVerdict::Reap);
    chosen.retain(|tree| pids.is_empty() || pids.iter().any(|pid| has(tree, *pid)));
    Ok(chosen)
}

fn has(tree: &ForeignTree, pid: Pid) -> bool {
    tree.root.pid == pid || tree.processes.iter().any(|id| id.pid == pid)
}

fn say_held_back(count: usize, budget: usize, console: &mut Console) {
    if count > 0 {
        let text = format!(
            "note: the policy allows {budget} trees a minute (maxReapsPerMinute): {} wait for the next time",
            trees::trees_text(count)
        );
        console.say(&text);
    }
}

/// Whether the person agrees.
fn asked(question: &str, console: &mut Console) -> Result<bool, Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage("nobody can be asked: standard input is no terminal")
            .help("--yes ends them without asking, --dry-run only shows them"));
    }
    console.flush()?;
    console.say(&format!("{question} y/N"));
    let mut answer = String::new();
    stdin
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::failed(format!("no answer could be read: {error}")))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// What became of each, and what came back.
fn report(chosen: &[&ForeignTree], stopped: &[Stopping], console: &mut Console) -> Done {
    let (mut gone, mut came_back) = (0, 0);
    let mut exit = Exit::Done;
    for (tree, stopping) in chosen.iter().zip(stopped) {
        let who = format!("{} {}", tree.class, tree.root.pid);
        let memory = trees::memory(tree);
        match &stopping.outcome {
            Outcome::Gone => {
                gone += 1;
                came_back += memory;
                console.line(&format!("{who}: gone, {} came back", bytes(memory)))?;
            }
            Outcome::Spared(why) => console.line(&one_line(&format!("{who}: kept after all: {why}")))?,
            Outcome::Left(processes, why) => {
                exit = Exit::Failed;
                let pids: Vec<String> = processes.iter().map(|id| id.pid.to_string()).collect();
                let left = console.paint(Tone::Bad, "left");
                console.line(&format!("{who}: {left}: {}: {}", pids.join(", "), one_line(why)))?;
            }
        }
    }
    console.line(&format!("{} ended, {} came back", trees::trees_text(gone), bytes(came_back)))?;
    Ok(exit)
}
