//! The policy's `protect` patterns, and whom they match.

use crate::model::{LetGo, LetGoWhy, Observed, ProcId, Reading};
use regex::RegexSet;
use std::collections::BTreeSet;

/// The patterns, compiled once for as long as they stay the same.
#[derive(Debug, Default)]
pub(super) struct Protect {
    patterns: Vec<String>,
    compiled: Option<RegexSet>,
}

impl Protect {
    /// The set of these patterns; none for no pattern.
    ///
    /// # Errors
    /// What is waited for, as the gate says it: a pattern that can be understood.
    pub(super) fn of(&mut self, patterns: &[String]) -> Result<&Option<RegexSet>, String> {
        if self.patterns != patterns {
            let compiled = RegexSet::new(patterns)
                .map_err(|error| format!("the policy's `protect` patterns can be understood ({error})"))?;
            self.compiled = (!compiled.is_empty()).then_some(compiled);
            self.patterns = patterns.to_vec();
        }
        Ok(&self.compiled)
    }
}

/// Says of each tree what of it is protected: what was let go is listed for as long as it lives.
pub(super) fn note(observed: &mut Observed, protected: &BTreeSet<ProcId>) {
    let Reading::Known(trees) = &mut observed.workloads else { return };
    for tree in trees.values_mut() {
        let spared = tree.processes.iter().filter(|process| protected.contains(&process.id));
        let spared = spared.map(|it| LetGo { pid: it.id.pid, command: it.command.clone(), why: LetGoWhy::Protected });
        tree.let_go.extend(spared);
    }
}

/// The processes of ours that match, with all that descends from them in the same tree. Never a shim: its command line
/// names our own directories, and all of its workload descends from it.
pub(super) fn matches(protect: &Option<RegexSet>, observed: &Observed) -> BTreeSet<ProcId> {
    let (Some(protect), Reading::Known(trees)) = (protect, &observed.workloads) else { return BTreeSet::new() };
    trees.values().flat_map(|tree| tree.free(|process| protect.is_match(&process.command))).collect()
}
