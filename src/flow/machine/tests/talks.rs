//! Conversations: whose turn belongs to which.

use super::{World, step};
use crate::flow::{AgentStep, Conversation, Executor, Step, conversation, kept_conversations};
use crate::model::Outcome;

fn asks(name: &str, agent: AgentStep) -> Step {
    step(name).by(Executor::Agent(agent))
}

fn in_session(session: &str) -> AgentStep {
    AgentStep { session: Some(session.into()), ..AgentStep::default() }
}

impl World {
    fn talk(&self, run: &str) -> Conversation {
        conversation(&self.flow, &self.runs, self.run(run)).unwrap()
    }

    /// The run that is at work ends its turn, in this session of its agent.
    fn said(&mut self, run: &str, session: &str) {
        let at = self.runs.iter().position(|it| it.metadata.name == format!("j.{run}")).unwrap();
        let outcome = Outcome { session: Some(session.into()), ..Outcome::of(Ok(Default::default())) };
        self.runs[at] = super::finish(&self.flow, &self.runs[at], &outcome, self.now);
        self.pass();
    }
}

#[test]
fn a_run_without_a_session_has_a_conversation_of_its_own() {
    let mut world = World::started([asks("a", AgentStep::default()).back_to("a", "attempt == 1", None), step("b")]);
    world.begin();
    let own = |key: &str| Conversation { key: key.into(), is_continued: false, resume: None, fork_of: None };
    assert_eq!(world.talk("a.1"), own("run:a.1"));
    assert_eq!(conversation(&world.flow, &world.runs, world.run("b.1")), None, "a script does not talk");
    world.said("a.1", "s1");
    assert_eq!(world.talk("a.2"), own("run:a.2"));
    assert!(kept_conversations(&world.flow, &world.runs).is_empty());
}

#[test]
fn steps_of_one_session_take_turns_and_go_on_where_the_last_one_ended() {
    let mut world = World::started([
        asks("a", in_session("s")),
        asks("b", in_session("s")),
        asks("c", in_session("other")),
        asks("d", in_session("s")).after("a"),
    ]);
    assert_eq!(world.begin(), ["a.1", "c.1"], "one writer at a time");
    assert_eq!(world.talk("a.1").resume, None);
    world.said("a.1", "s1");
    assert_eq!(world.begin(), ["b.1"], "the one that has waited longest");
    let talk = world.talk("b.1");
    assert_eq!((talk.key.as_str(), talk.resume.as_deref(), talk.is_continued), ("session:s#1", Some("s1"), false));
    world.said("b.1", "s2");
    assert_eq!(world.begin(), ["d.1"]);
    assert_eq!(world.talk("d.1").resume.as_deref(), Some("s2"));
    assert_eq!(kept_conversations(&world.flow, &world.runs), ["session:other#1", "session:s#1"]);
}

#[test]
fn a_flow_that_an_agent_left_behind_does_not_hold_its_conversation() {
    let mut world = World::started([asks("a", in_session("s")), asks("b", in_session("s"))]);
    world.begin();
    world.runs[0].status.emitted = Some(serde_json::json!({"steps": {}}));
    assert_eq!(world.begin(), ["b.1"]);
}

#[test]
fn a_loop_goes_on_in_the_same_conversation_until_it_has_had_its_attempts() {
    let agent =
        AgentStep { loop_prompt: Some("again".into()), max_continuous_attempts: Some(2), ..AgentStep::default() };
    let mut world = World::started([asks("a", agent).back_to("a", "attempt < 5", None)]);
    let mut seen = Vec::new();
    for attempt in 1..=5 {
        world.begin();
        let talk = world.talk(&format!("a.{attempt}"));
        seen.push((talk.key, talk.is_continued, talk.resume.unwrap_or_default()));
        world.said(&format!("a.{attempt}"), &format!("s{attempt}"));
    }
    let expected = [("#1", false, ""), ("#1", true, "s1"), ("#2", false, ""), ("#2", true, "s3"), ("#3", false, "")];
    let expected = expected.map(|(key, continued, resume)| (format!("step:a{key}"), continued, resume.to_owned()));
    assert_eq!(seen, expected);
}

#[test]
fn a_run_that_was_never_asked_is_no_turn() {
    let mut world = World::started([asks("a", in_session("s")), asks("b", in_session("s")).after("a")]);
    world.begin();
    world.said("a.1", "s1");
    world.runs[0].status.cached_from = Some("j0.a.1".into());
    assert_eq!(world.talk("b.1").resume, None);
}

#[test]
fn a_fork_begins_where_the_source_ended_and_leaves_it_as_it_was() {
    let fork = AgentStep { fork_from: Some("a".into()), ..AgentStep::default() };
    let mut world = World::started([asks("a", AgentStep::default()), asks("b", fork.clone()), asks("c", fork)]);
    assert_eq!(world.begin(), ["a.1"], "a fork waits for its source");
    world.said("a.1", "s1");
    assert_eq!(world.begin(), ["b.1", "c.1"]);
    for run in ["b.1", "c.1"] {
        let talk = world.talk(run);
        assert_eq!((talk.resume.as_deref(), talk.fork_of.as_deref()), (None, Some("s1")));
    }
    assert_eq!(kept_conversations(&world.flow, &world.runs), ["run:a.1"]);
}
