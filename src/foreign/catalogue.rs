//! The catalogue of agents: data (`catalogue.yaml`), and how it is held against a process.

use super::argv::{self, Program};
use crate::model::{HostProcess, Match};
use serde::Deserialize;
use std::collections::HashMap;

const BUILT_IN: &str = include_str!("catalogue.yaml");

/// What a process is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// An agent, or its adapter.
    #[default]
    Agent,
    /// What an agent uses: an MCP server.
    Tool,
    /// A virtual machine.
    Machine,
    /// A server of jobs. It starts agents, and is never a part of what is judged.
    Server,
}

/// One way to know a process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Signature {
    class: String,
    kind: Kind,
    programs: Vec<String>,
    packages: Vec<String>,
    directories: Vec<String>,
    arguments: Vec<String>,
    unless: Vec<String>,
}

/// What the catalogue says about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recognised<'c> {
    pub class: &'c str,
    pub kind: Kind,
    /// It only starts what it is known for: `npm exec`, `sh -c`.
    pub is_wrapper: bool,
}

/// How to know an agent in a process table: by its program and its arguments, each at its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// In order of worth.
    signatures: Vec<Signature>,
    /// Those that may fit, by a whole name of a program, package, or directory.
    by_name: HashMap<String, Vec<usize>>,
    /// Those with a `*` in a name, beside the name.
    by_pattern: Vec<(String, usize)>,
}

impl Catalogue {
    /// The agents that we know.
    pub fn built_in() -> Catalogue {
        Catalogue::indexed(read(BUILT_IN).unwrap_or_default())
    }

    /// The same, and the classes of a user's, which come first. Of each the names in [`Match::cmdline`]: a program's, a
    /// script's, or a package's; further words are arguments (`opencode acp`).
    pub fn with<'a>(self, classes: impl Iterator<Item = (&'a str, &'a Match)>) -> Catalogue {
        let mut signatures = Vec::new();
        for (class, r#match) in classes {
            for line in &r#match.cmdline {
                let mut words = line.split_whitespace().map(str::to_owned);
                let Some(name) = words.next() else { continue };
                signatures.push(Signature {
                    class: class.to_owned(),
                    programs: vec![name.clone()],
                    packages: vec![name.clone()],
                    directories: vec![name],
                    arguments: words.collect(),
                    ..Signature::default()
                });
            }
        }
        signatures.extend(self.signatures);
        Catalogue::indexed(signatures)
    }

    fn indexed(signatures: Vec<Signature>) -> Catalogue {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        let mut by_pattern = Vec::new();
        for (at, signature) in signatures.iter().enumerate() {
            for name in signature.programs.iter().chain(&signature.packages).chain(&signature.directories) {
                if name.contains('*') {
                    by_pattern.push((name.clone(), at));
                } else {
                    by_name.entry(name.clone()).or_default().push(at);
                }
            }
        }
        Catalogue { signatures, by_name, by_pattern }
    }

    /// What a process is.
    pub(super) fn recognise(&self, process: &HostProcess) -> Option<Recognised<'_>> {
        let program = argv::program(process)?;
        let signature = self.find(&program)?;
        Some(Recognised { class: &signature.class, kind: signature.kind, is_wrapper: program.is_wrapper })
    }

    /// The class of a command that a ledger wrote down.
    pub(super) fn class_of(&self, program: &Program<'_>) -> Option<&str> {
        self.find(program).map(|signature| signature.class.as_str())
    }

    fn find(&self, program: &Program<'_>) -> Option<&Signature> {
        let names = program.names.iter().chain(&program.packages).chain(&program.directory);
        let mut fitting: Vec<usize> = Vec::new();
        for name in names {
            fitting.extend(self.by_name.get(&**name).into_iter().flatten());
            fitting.extend(self.by_pattern.iter().filter(|(pattern, _)| fits(pattern, name)).map(|(_, at)| at));
        }
        fitting.sort_unstable();
        fitting.into_iter().filter_map(|at| self.signatures.get(at)).find(|signature| signature.fits(program))
    }
}

impl Signature {
    fn fits(&self, program: &Program<'_>) -> bool {
        let any = |patterns: &[String], name: &str| patterns.iter().any(|pattern| fits(pattern, name));
        let named = program.names.iter().any(|name| any(&self.programs, name))
            || program.packages.iter().any(|name| any(&self.packages, name))
            || program.directory.iter().any(|name| any(&self.directories, name));
        let asked = self.arguments.is_empty() || self.arguments.iter().any(|wanted| has_argument(program, wanted));
        let excused = program.arguments.iter().any(|word| self.unless.iter().any(|start| word.starts_with(start)));
        named && asked && !excused
    }
}

/// A flag anywhere; a word as the sub-command, which only flags and their values may precede.
fn has_argument(program: &Program<'_>, wanted: &str) -> bool {
    if wanted.starts_with('-') {
        return program
            .arguments
            .iter()
            .any(|word| word.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('=')));
    }
    let mut after_flag = false;
    for word in &program.arguments {
        if word.starts_with('-') {
            after_flag = !word.contains('=');
        } else if fits(wanted, word) {
            return true;
        } else if !std::mem::take(&mut after_flag) {
            return false;
        }
    }
    false
}

/// Whether a name is the pattern, which may have one `*`.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => name.len() > start.len() + end.len() && name.starts_with(start) && name.ends_with(end),
    }
}

fn read(text: &str) -> Result<Vec<Signature>, Box<serde_yaml::Error>> {
    serde_yaml::from_str(text).map_err(Box::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_catalogue_can_be_read() {
        let signatures = read(BUILT_IN).unwrap();
        assert!(signatures.len() > 20);
        for signature in &signatures {
            assert!(!signature.class.is_empty());
            assert!(
                !(signature.programs.is_empty() && signature.packages.is_empty()),
                "{} has no name",
                signature.class
            );
        }
    }
}
