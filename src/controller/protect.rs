//! The policy's `protect` patterns, and whom they match.

use crate::model::{Observed, ProcId, Reading};
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

/// The processes of ours that match.
pub(super) fn matches(protect: &Option<RegexSet>, observed: &Observed) -> BTreeSet<ProcId> {
    let (Some(protect), Reading::Known(trees)) = (protect, &observed.workloads) else { return BTreeSet::new() };
    let all = trees.values().flat_map(|tree| &tree.processes);
    all.filter(|process| protect.is_match(&process.command)).map(|process| process.id).collect()
}
