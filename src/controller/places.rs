//! How much runs at the same time: the policy's limits, and who takes a place.

use crate::flow::{Executor, Task};
use crate::model::MaxConcurrent;
use std::collections::HashMap;

/// What a run that is at work takes one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place<'f> {
    /// A turn of an agent of this class.
    Agent(&'f str),
    /// A script, or a notification.
    Script,
    /// A request to a model.
    Llm,
    /// A check, of a poll or of a requirement.
    Check,
}

/// The place that a task takes; none: it runs in no process of ours.
pub(super) fn place_of<'f>(task: &Task<'f>) -> Option<Place<'f>> {
    match task {
        Task::Work(Executor::Agent(agent)) => Some(Place::Agent(&agent.class)),
        Task::Work(Executor::Script(_)) | Task::Notification { .. } => Some(Place::Script),
        Task::Work(Executor::Llm(_)) => Some(Place::Llm),
        Task::Work(Executor::Poll(_)) => Some(Place::Check),
        Task::Work(Executor::External { .. } | Executor::Mock(_) | Executor::SubFlow(_)) => None,
    }
}

/// The places that are taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    agents: u32,
    scripts: u32,
    llms: u32,
    checks: u32,
    by_class: HashMap<String, u32>,
}

impl Places {
    /// Somebody has one already.
    pub(super) fn seat(&mut self, place: Place<'_>) {
        match place {
            Place::Agent(class) => {
                self.agents += 1;
                *self.by_class.entry(class.to_owned()).or_default() += 1;
            }
            Place::Script => self.scripts += 1,
            Place::Llm => self.llms += 1,
            Place::Check => self.checks += 1,
        }
    }

    /// Takes one, if one is free.
    pub(super) fn take(&mut self, place: Place<'_>, limits: &MaxConcurrent) -> bool {
        let is_free = match place {
            Place::Agent(class) => {
                let of_class = self.by_class.get(class).copied().unwrap_or(0);
                self.agents < limits.agents && limits.classes.get(class).is_none_or(|limit| of_class < *limit)
            }
            Place::Script => self.scripts < limits.scripts,
            Place::Llm => self.llms < limits.llms,
            Place::Check => self.checks < limits.checks,
        };
        if is_free {
            self.seat(place);
        }
        is_free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn each_kind_and_each_class_has_its_own_places() {
        let classes = BTreeMap::from([("slow".to_owned(), 1)]);
        let limits = MaxConcurrent { agents: 3, scripts: 1, llms: 0, checks: 2, items: 0, classes };
        let mut places = Places::default();
        places.seat(Place::Check);
        let asked = [
            (Place::Agent("slow"), true),
            (Place::Agent("slow"), false),
            (Place::Agent("quick"), true),
            (Place::Agent("quick"), true),
            (Place::Agent("quick"), false),
            (Place::Script, true),
            (Place::Script, false),
            (Place::Llm, false),
            (Place::Check, true),
            (Place::Check, false),
        ];
        for (place, free) in asked {
            assert_eq!(places.take(place, &limits), free, "{place:?}");
        }
    }
}
