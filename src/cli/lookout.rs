//! What `scan` and `reap` look with: options of their command lines, and what a state directory holds about the matter.

use super::client::Client;
use super::failure::{Context, Failure};
use super::place;
use super::source::Source;
use crate::act::foreign::{Look, Lookout, Rules};
use crate::ledger;
use crate::model::{AgentClassSpec, AnyObject, Fields, Kind, LedgerSpec, LedgerType, PolicySpec, Span, Time};
use crate::os::StateDir;
use crate::store::Store;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an orphan must have done nothing. A controller can afford to watch for longer.
const IDLE_FOR: Duration = Duration::from_secs(5);

/// What is to be looked at, and by which rules.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A job store of another program, beside those that are found: stepwise=FILE, acpx=DIR, or files=DIR; may be given again
    #[arg(long = "ledger", value_name = "TYPE=PATH", value_parser = ledger_of)]
    ledgers: Vec<(LedgerType, PathBuf)>,
    /// Judge no tree that is younger than this [default: the policy's, else 2m]
    #[arg(long, value_name = "SPAN")]
    min_age: Option<Span>,
    /// A class of agents that may be reaped for having lost their parent, if nobody talks to them and they do nothing for
    /// some seconds; may be given again
    #[arg(long, value_name = "CLASS")]
    orphans: Vec<String>,
    /// A regular expression on command lines that are never touched; may be given again
    #[arg(long, value_name = "REGEX")]
    protect: Vec<String>,
}

/// `stepwise=/path`.
fn ledger_of(text: &str) -> Result<(LedgerType, PathBuf), String> {
    let (name, path) = text.split_once('=').unwrap_or((text, ""));
    let kind =
        ledger_type(name).ok_or_else(|| format!("`{name}` is not a type of ledger: stepwise, acpx, or files"))?;
    if path.is_empty() {
        return Err(format!("`{text}` names no path; write {name}=PATH"));
    }
    Ok((kind, path.into()))
}

fn ledger_type(name: &str) -> Option<LedgerType> {
    match name {
        "stepwise" => Some(LedgerType::Stepwise),
        "acpx" => Some(LedgerType::Acpx),
        "files" => Some(LedgerType::Files),
        _ => None,
    }
}

/// What a state directory holds about foreign trees.
#[derive(Debug, Default)]
pub struct Settings {
    classes: Vec<(String, AgentClassSpec)>,
    policy: PolicySpec,
    ledgers: Vec<(String, LedgerSpec)>,
    /// Why none of it could be read, though it may be there.
    pub unread: Option<Failure>,
}

impl Settings {
    /// What the controller of this state directory has, or its store last held. Where there is neither: nothing.
    pub async fn read(flag: Option<&Path>) -> Settings {
        let state = match place::state_dir(flag) {
            Ok(state) => state,
            // Nobody has named one, and there is no place for one: then there is none.
            Err(_) if flag.is_none() => return Settings::default(),
            Err(failure) => return Settings { unread: Some(failure), ..Settings::default() },
        };
        match Settings::of(&state).await.to(|| format!("read what {} says about agents", state.root().display())) {
            Ok(settings) => settings,
            Err(unread) => Settings { unread: Some(unread), ..Settings::default() },
        }
    }

    async fn of(state: &StateDir) -> Result<Settings, Failure> {
        let client = Client::new(state.clone());
        let source = if client.is_there().await? {
            Source::Live(client)
        } else {
            match state.store_file().try_exists() {
                Ok(true) => Source::Stored(Box::new(Store::open_read_only(&state.store_file())?), state.clone()),
                Ok(false) => return Ok(Settings::default()),
                Err(error) => return Err(Failure::failed(error.to_string())),
            }
        };
        let mut settings = Settings::default();
        for kind in [Kind::AgentClass, Kind::Policy, Kind::Ledger] {
            for json in source.list(kind, &[]).await? {
                let object = AnyObject::from_json(kind, json)
                    .map_err(|error| Failure::failed(format!("a {kind} can not be understood: {error}")))?;
                let name = object.meta().name.clone();
                match object {
                    AnyObject::AgentClass(class) => settings.classes.push((name, class.spec)),
                    AnyObject::Ledger(ledger) => settings.ledgers.push((name, ledger.spec)),
                    AnyObject::Policy(policy) if name == "default" => settings.policy = policy.spec,
                    _ => {}
                }
            }
        }
        Ok(settings)
    }

    /// How long a tree of this class has between SIGTERM and SIGKILL.
    pub fn grace(&self, class: &str) -> Duration {
        let spec = self.classes.iter().find(|(name, _)| name == class).map(|(_, spec)| spec);
        spec.map_or_else(|| AgentClassSpec::default().grace_period.0, |spec| spec.grace_period.0)
    }

    /// One look with the memory of each tree; a second one, if that is needed to tell who does nothing.
    pub async fn look(lookout: &mut Lookout, rules: &Rules, clock: fn() -> Time) -> Look {
        let now = clock();
        let look = lookout.look_and_weigh(rules, now);
        let Some(at) = lookout.again_at(rules, now) else { return look };
        tokio::time::sleep(at.since(clock())).await;
        lookout.look_and_weigh(rules, clock())
    }

    /// How many trees may be ended within a minute.
    pub fn budget(&self) -> usize {
        usize::try_from(self.policy.max_reaps_per_minute).unwrap_or(usize::MAX)
    }

    /// Who looks: with the classes and ledgers of these settings, and the ledgers of the command line.
    ///
    /// # Errors
    /// A ledger makes no sense.
    pub fn lookout(&self, options: &Options) -> Result<Lookout, Failure> {
        let mut sources = Vec::new();
        for (r#type, path) in &options.ledgers {
            let path = std::path::absolute(path)
                .map_err(|error| Failure::usage(format!("{} has no absolute path: {error}", path.display())))?;
            // Who names a path on the command line of root says that its owner may keep a ledger of their own processes.
            let user = std::fs::metadata(&path).ok().map(|meta| meta.uid());
            let name = path.display().to_string();
            sources.push(ledger::Source { name, r#type: *r#type, path, fields: Fields::default(), user });
        }
        for (name, spec) in &self.ledgers {
            let source = ledger::Source::of(name, spec)
                .map_err(|error| Failure::failed(format!("ledger `{name}` makes no sense: {error}")))?;
            sources.push(source);
        }
        let classes = self.classes.iter().filter_map(|(name, spec)| Some((name.as_str(), spec.r#match.as_ref()?)));
        Ok(Lookout::new(classes, sources))
    }

    /// By which rules trees are judged.
    ///
    /// # Errors
    /// A pattern can not be understood.
    pub fn rules(&self, options: &Options) -> Result<Rules, Failure> {
        let mut policy = self.policy.clone();
        policy.min_age = options.min_age.unwrap_or(policy.min_age);
        policy.orphans.extend_from_slice(&options.orphans);
        policy.protect.extend_from_slice(&options.protect);
        Rules::of(&policy, IDLE_FOR)
            .map_err(|error| Failure::usage(format!("a `protect` pattern can not be understood: {error}")))
    }
}
