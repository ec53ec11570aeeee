//! `docs/flows.md` tells the truth: each of its examples is validated, and run as it stands.
//!
//! The braces behind ```` ```yaml ```` say what comes out: `phase` (default `Succeeded`), `reason`, `outputs` (at least these;
//! `"…"` stands for any text), `runs` (phases of steps), and what goes in: `inputs`, `fulfill` (answers by step), `llm` (what
//! the model gives).

use crate::support::chat_api::{ChatApi, Reply};
use crate::support::{World, wait_for};
use serde_json::{Value, json};

/// One example.
struct Example {
    /// The line of the page that it begins at.
    line: usize,
    flow: Value,
    text: String,
    said: Value,
}

impl Example {
    fn name(&self) -> String {
        format!("line-{}", self.line)
    }
}

fn examples() -> Vec<Example> {
    let page = include_str!("../../docs/flows.md");
    let mut examples = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let Some(said) = line.strip_prefix("```yaml ") else { continue };
        let block: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        let text = block.join("\n");
        let parsed = tenure::manifest::parse("flows.md", text.as_bytes());
        assert_eq!(parsed.documents.len(), 1, "line {}: {:?}", at + 1, parsed.diagnostics);
        let flow = parsed.documents[0].value.clone();
        let said = serde_json::from_str(said).unwrap_or_else(|error| panic!("line {}: {error}", at + 1));
        examples.push(Example { line: at + 1, flow, text, said });
    }
    examples
}

/// Whether all that was promised is there.
fn holds(promised: &Value, given: &Value) -> bool {
    match (promised, given) {
        (Value::String(any), Value::String(_)) if any == "…" => true,
        (Value::Object(promised), Value::Object(given)) => {
            promised.iter().all(|(key, value)| given.get(key).is_some_and(|given| holds(value, given)))
        }
        (Value::Array(promised), Value::Array(given)) => {
            promised.len() == given.len() && promised.iter().zip(given).all(|(promised, given)| holds(promised, given))
        }
        (promised, given) => promised == given || (promised.is_number() && promised.as_f64() == given.as_f64()),
    }
}

#[test]
fn every_example_is_valid() {
    let examples = examples();
    assert!(examples.len() > 25, "{} examples were found", examples.len());
    for example in examples {
        let compiled = tenure::flow::compile(&example.flow);
        assert_eq!(compiled.problems, [], "line {}:\n{}", example.line, example.text);
    }
}

#[test]
fn every_example_comes_out_as_it_says() {
    let examples = examples();
    let api = ChatApi::start();
    let mut world = World::idle();
    world.env("TENURE_LLM_BASE_URL", &api.url()).env("TENURE_LLM_API_KEY", "x").env("NO_PROXY", "127.0.0.1");
    world.start();
    for example in &examples {
        if let Some(answer) = example.said.get("llm") {
            api.answer(Reply::Call(answer.clone()));
        }
        let inputs = example.said.get("inputs").cloned().unwrap_or(json!({}));
        let job = json!({
            "apiVersion": "tenure.dev/v1alpha1",
            "kind": "Job",
            "metadata": {"name": example.name()},
            "spec": {"flow": example.flow, "inputs": inputs},
        });
        world.drop_file(&format!("{}.json", example.name()), &job.to_string());
    }
    for example in &examples {
        for (step, answer) in example.said.get("fulfill").and_then(Value::as_object).into_iter().flatten() {
            let run = wait_for(&format!("line {}: {step} to ask", example.line), || {
                let run = world.runs(&example.name()).remove(step)?;
                (run["status"]["phase"] == "Suspended").then(|| run["metadata"]["name"].as_str().unwrap().to_owned())
            });
            let values = answer.as_object().unwrap().iter();
            let values: Vec<String> =
                values.map(|(name, value)| format!("{name}={}", value.as_str().unwrap())).collect();
            let mut args = vec!["fulfill", run.as_str()];
            args.extend(values.iter().map(String::as_str));
            world.ok(&args);
        }
    }
    for example in &examples {
        comes_out(&world, example);
    }
}

fn comes_out(world: &World, example: &Example) {
    let text = |key: &str| example.said.get(key).and_then(Value::as_str);
    let phase = text("phase").unwrap_or("Succeeded");
    let reason = text("reason");
    let job = wait_for(&format!("line {} to be {phase} {reason:?}\n{}", example.line, example.text), || {
        let job = world.job(&example.name())?;
        let status = &job["status"];
        let there = status["phase"] == phase && reason.is_none_or(|reason| status["reason"] == reason);
        let ended = ["Succeeded", "Failed", "Cancelled"].contains(&status["phase"].as_str()?);
        assert!(there || !ended, "line {}: {status:#}\n{}", example.line, example.text);
        there.then_some(job)
    });
    if let Some(promised) = example.said.get("outputs") {
        let given = &job["status"]["outputs"];
        assert!(holds(promised, given), "line {}: {promised} was promised, {given} came out", example.line);
    }
    let runs = world.runs(&example.name());
    for (step, phase) in example.said.get("runs").and_then(Value::as_object).into_iter().flatten() {
        assert_eq!(runs[step]["status"]["phase"], *phase, "line {}: {step}", example.line);
    }
}
