//! `tenure scan`: what agents run on this host, whose they are, and which of them nobody needs. Needs no controller, changes
//! nothing.

use super::console::Console;
use super::failure::{Done, Exit, Failure};
use super::get::{Format as Whole, whole_as_text};
use super::lookout::{Options, Settings};
use super::source::list_of;
use super::trees;
use crate::act::foreign::Look;
use crate::model::{ForeignTree, Reading};
use crate::os::user_name;
use clap::ValueEnum;
use std::cmp::Reverse;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

/// Show every agent tree on this host: who owns it, its memory, and whether it leaks
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How it is shown
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// The processes of each tree, with their memory
    #[arg(long, conflicts_with = "output")]
    tree: bool,
    /// Look again every few seconds, until interrupted
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    options: Options,
}

/// How trees are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line each.
    Table,
    /// A longer line each.
    Wide,
    /// Whole, as JSON.
    Json,
}

/// From one look to the next.
const PERIOD: Duration = Duration::from_secs(5);

/// Goes to the upper left corner, and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

pub async fn main(args: Args, state: Option<&Path>, console: &mut Console) -> Done {
    let settings = Settings::read(state).await;
    let rules = settings.rules(&args.options)?;
    let mut lookout = settings.lookout(&args.options)?;
    let redraws = args.watch && std::io::stdout().is_terminal();
    loop {
        let look = Settings::look(&mut lookout, &rules, console.now).await;
        if redraws {
            console.print(CLEAR)?;
        }
        show(&args, &look, console)?;
        if let Some(unread) = &settings.unread {
            console.say(&format!("note: {}", unread.to_string().replace('\n', "; ")));
        }
        if !args.watch {
            return match &look.census.processes {
                Reading::Known(_) => Ok(Exit::Done),
                Reading::Unknown(why) => Err(unseen(why)),
            };
        }
        if !redraws && args.output != Format::Json {
            console.line("")?;
        }
        console.flush()?;
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
        }
    }
}

/// The process table could not be read.
pub fn unseen(why: &str) -> Failure {
    Failure { what: Some("look at the processes of this host".into()), ..Failure::failed(why) }
}

/// The trees of a look, the largest first.
pub fn by_memory(trees: &[ForeignTree]) -> Vec<&ForeignTree> {
    let mut sorted: Vec<&ForeignTree> = trees.iter().collect();
    sorted.sort_by_key(|tree| (Reverse(trees::memory(tree)), tree.root));
    sorted
}

fn show(args: &Args, look: &Look, console: &mut Console) -> Result<(), Failure> {
    let sorted = by_memory(&look.trees);
    if args.output == Format::Json {
        let list = list_of(sorted.iter().map(|tree| trees::json(tree, &user_name)).collect());
        // Of many, a line each.
        return if args.watch {
            console.line(&list.to_string())
        } else {
            console.print(&whole_as_text(&list, Whole::Json)?)
        };
    }
    if args.tree {
        console.print(&trees::forest(&sorted, look, &user_name, console.colour))?;
    } else if !sorted.is_empty() {
        let wide = args.output == Format::Wide;
        console.print(&trees::table(&sorted, wide, look.census.as_of, &user_name, console.colour))?;
    }
    if sorted.is_empty() {
        console.say("there are no trees of agents");
    } else {
        console.line(&trees::total(&look.trees))?;
    }
    for note in trees::notes(look) {
        console.say(&note);
    }
    Ok(())
}
