//! What was asked in one session of the agent, turn by turn. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

/// The course of a session.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// The runs whose prompts were asked, in order, and how many lines of the agent had been heard before each.
    pub(super) prompts: Vec<(String, u64)>,
    /// The choices of a model, in order: the request's id, and the model.
    pub(super) models: Vec<(String, String)>,
    /// The model that was set last.
    model: Option<String>,
    /// What the session had cost in all when its last turn ended.
    counted_usd: f64,
    /// What it has cost in all, by a report since then.
    reported_usd: Option<f64>,
}

impl Course {
    /// Every run that was asked.
    pub(super) fn runs(&self) -> impl Iterator<Item = &str> {
        self.prompts.iter().map(|(run, _)| run.as_str())
    }

    /// The run that was asked last.
    pub(super) fn last_run(&self) -> Option<&str> {
        self.prompts.last().map(|(run, _)| run.as_str())
    }

    /// The run that had been asked last when the agent said its line number `line`. Of what is asked, the agent has answered
    /// all but the last: one turn at a time.
    pub(super) fn run_at(&self, line: u64) -> Option<&str> {
        let begun = self.prompts.partition_point(|(_, heard)| *heard < line);
        self.prompts.get(begun.checked_sub(1)?).map(|(run, _)| run.as_str())
    }

    /// Line number `line` says what the session has cost in all. Before its first turn, that is what others paid.
    pub(super) fn costs_now(&mut self, usd: f64, line: u64) {
        if self.run_at(line).is_none() {
            self.counted_usd = usd;
        } else {
            self.reported_usd = Some(usd);
        }
    }

    /// What the turn cost that ends now: the difference from the turn before. A sum that fell began again at nothing.
    pub(super) fn cost_of_turn(&mut self) -> Option<f64> {
        let now = self.reported_usd.take()?;
        let before = std::mem::replace(&mut self.counted_usd, now);
        Some(if now < before { now.max(0.0) } else { now - before })
    }

    /// Whether the request with this id chose a model here.
    pub(super) fn asked_model(&self, id: &str) -> bool {
        self.models.iter().any(|(asked, _)| asked == id)
    }

    /// The request with this id was granted.
    pub(super) fn model_is_set(&mut self, id: &str) {
        if let Some((_, model)) = self.models.iter().find(|(asked, _)| asked == id) {
            self.model = Some(model.clone());
        }
    }

    /// The session was closed, and goes on: with which model, the agent knows.
    pub(super) fn opened_again(&mut self) {
        self.model = None;
    }

    /// The model that was set last.
    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }
}
