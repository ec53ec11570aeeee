//! `tenure logs`: what scripts printed, and what agents said.

use super::console::{Console, Tone};
use super::failure::{Context, Done, Exit, Failure};
use super::names;
use super::source::Source;
use super::text::at;
use super::transcript::Transcript;
use crate::model::Kind;
use crate::os::StateDir;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Show what the scripts of a job printed, and what its agents said
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A job, JOB/STEP (its latest attempt), a run, or workload/UID
    #[arg(value_name = "JOB[/STEP]")]
    of: String,
    /// Go on with what comes, until all of it has ended
    #[arg(short, long)]
    follow: bool,
    /// Only what was written to stderr
    #[arg(long)]
    stderr: bool,
    /// The bytes as they are: an agent's JSON lines
    #[arg(long)]
    raw: bool,
}

/// How often a transcript that is followed is read.
const EVERY: Duration = Duration::from_millis(300);

pub async fn main(args: Args, state: &StateDir, console: &mut Console) -> Done {
    let what = || format!("show the logs of {}", args.of);
    let source = Source::open(state, console).await.to(what)?;
    if args.follow {
        source.live().to(what)?;
    }
    let mut printer = Printer { args: &args, console, seen: BTreeMap::new(), last: None, several: false };
    loop {
        // Asked before the reading: what is written before its end is read.
        let (pieces, has_ended) = pieces(&source, &args.of).await.to(what)?;
        printer.several |= pieces.len() > 1;
        for piece in &pieces {
            printer.show(&source, piece, has_ended || !args.follow).await.to(what)?;
        }
        printer.console.flush()?;
        if has_ended || !args.follow {
            if printer.last.is_none() {
                console.say(&format!("nothing was written by {}", args.of));
            }
            return Ok(Exit::Done);
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// What one workload said for one run.
struct Piece {
    title: String,
    workload: String,
    is_agent: bool,
    /// None: all that the workload did.
    run: Option<String>,
}

/// What there is to show, and whether there will be no more.
async fn pieces(source: &Source, of: &str) -> Result<(Vec<Piece>, bool), Failure> {
    if let Some(("workload" | "workloads" | "wl", uid)) = of.split_once('/') {
        let workload = source.get(Kind::Workload, uid).await?;
        let has_ended = at(&workload, "/status/phase") == "Stopped";
        let is_agent = at(&workload, "/spec/type") == "Adapter";
        return Ok((vec![Piece { title: uid.to_owned(), workload: uid.to_owned(), is_agent, run: None }], has_ended));
    }
    let mut runs = match names::runs(source, of).await {
        // A job that has no run yet will have one.
        Err(failure) if failure.exit == Exit::NotFound && !of.contains('/') => {
            source.find(Kind::Job, of).await?.ok_or(failure)?;
            Vec::new()
        }
        result => result?,
    };
    let is_step = names::job_name(of).contains('/');
    if is_step {
        runs.drain(..runs.len().saturating_sub(1));
    }
    let is_final =
        |run: &Value| ["Completed", "Failed", "Skipped", "Cancelled"].contains(&at(run, "/status/phase").as_str());
    let mut has_ended = runs.iter().all(is_final);
    if !is_step {
        let job = match runs.first() {
            Some(run) => at(run, "/spec/job"),
            None => names::job_name(of).to_owned(),
        };
        let phase = source.find(Kind::Job, &job).await?.map(|job| at(&job, "/status/phase")).unwrap_or_default();
        has_ended &= !["Pending", "Running", "Paused"].contains(&phase.as_str());
    }
    let mut pieces = Vec::new();
    for run in &runs {
        let uid = at(run, "/status/workload");
        if uid.is_empty() {
            continue;
        }
        let r#type = source.find(Kind::Workload, &uid).await?.map(|workload| at(&workload, "/spec/type"));
        let is_agent = r#type.map_or(run.pointer("/status/session").is_some(), |r#type| r#type == "Adapter");
        let name = at(run, "/metadata/name");
        pieces.push(Piece { title: name.clone(), workload: uid, is_agent, run: Some(name) });
    }
    Ok((pieces, has_ended))
}

/// What was shown already.
struct Printer<'a> {
    args: &'a Args,
    console: &'a mut Console,
    /// By (title, stream).
    seen: BTreeMap<(String, &'static str), Seen>,
    /// Whose text was shown last.
    last: Option<String>,
    several: bool,
}

#[derive(Default)]
struct Seen {
    offset: u64,
    /// The beginning of a line whose end was not there yet.
    rest: Vec<u8>,
    transcript: Option<Transcript>,
}

impl Printer<'_> {
    /// Shows what is new of a piece.
    async fn show(&mut self, source: &Source, piece: &Piece, is_last: bool) -> Result<(), Failure> {
        // What an agent says is in its stdout; its stderr is for who looks for a fault.
        let streams: &[&'static str] = match (self.args.stderr, piece.is_agent) {
            (true, _) => &["stderr"],
            (false, true) => &["stdout"],
            (false, false) => &["stdout", "stderr"],
        };
        for &stream in streams {
            let is_transcript = piece.is_agent && stream == "stdout" && !self.args.raw;
            let key = (piece.title.clone(), stream);
            let mut seen = self.seen.remove(&key).unwrap_or_default();
            let (bytes, end) = source.log(&piece.workload, stream, seen.offset).await?;
            seen.offset = end;
            if is_transcript {
                self.transcript(piece, &mut seen, &bytes, is_last)?;
            } else if !bytes.is_empty() {
                self.head(&piece.title)?;
                self.console.bytes(&bytes)?;
            }
            self.seen.insert(key, seen);
        }
        Ok(())
    }

    fn transcript(&mut self, piece: &Piece, seen: &mut Seen, bytes: &[u8], is_last: bool) -> Result<(), Failure> {
        let colour = self.console.colour;
        let transcript = seen.transcript.get_or_insert_with(|| Transcript::new(piece.run.clone(), colour));
        seen.rest.extend_from_slice(bytes);
        let mut text = String::new();
        while let Some(end) = seen.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = seen.rest.drain(..=end).collect();
            text.push_str(&transcript.line(String::from_utf8_lossy(&line).trim_end()));
        }
        if is_last {
            text.push_str(&transcript.end());
        }
        if text.is_empty() {
            return Ok(());
        }
        self.head(&piece.title)?;
        self.console.print(&text)
    }

    /// Whose text follows, where there are several.
    fn head(&mut self, title: &str) -> Result<(), Failure> {
        if self.last.as_deref() == Some(title) {
            return Ok(());
        }
        if self.several && !self.args.raw {
            let gap = if self.last.is_some() { "\n" } else { "" };
            let head = self.console.paint(Tone::Bold, &format!("==> {title} <=="));
            self.console.line(&format!("{gap}{head}"))?;
        }
        self.last = Some(title.to_owned());
        Ok(())
    }
}
