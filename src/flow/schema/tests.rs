//! What the schema lets pass, and what it does not.

use super::*;
use serde_json::json;

fn is_valid(flow: &Value) -> bool {
    jsonschema::validator_for(schema()).unwrap().is_valid(flow)
}

#[test]
fn every_form_of_every_field_passes() {
    let base = json!({"run": "true"});
    let with = |fields: Value| {
        let mut step = base.clone();
        step.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap());
        json!({"steps": {"a": step}})
    };
    let alone = |step: Value| json!({"steps": {"a": step}});
    for flow in [
        with(
            json!({"inputs": {"a": "b.c", "d": {"from": "$job.x", "optional": true}, "e": {"any_of": ["a.f", "b.f.g"]}}}),
        ),
        with(json!({"outputs": ["a"], "after": "b", "after_resolved": ["b", {"any_of": ["c", "d"]}]})),
        with(json!({"outputs": {"a": "number", "b": {"type": "choice", "options": [1]}, "c": null}})),
        with(
            json!({"when": true, "exits": [{"when": "attempt > 1", "action": "loop", "target": "a", "max_iterations": 2}]}),
        ),
        with(json!({"when": {"input": "x", "is_present": false}, "on_error": "continue", "cache": true})),
        with(
            json!({"cache": {"ttl": "1h", "key_extra": "$x"}, "limits": {"max_cost_usd": 1, "max_duration_minutes": 0.5}}),
        ),
        with(json!({"idempotency": "non_retriable", "derived_outputs": {"x": "outputs.a + 1"}, "working_dir": "/tmp"})),
        with(json!({"decorators": [{"type": "retry", "config": {"max_retries": 2, "backoff": "exponential"}}]})),
        with(json!({"decorators": [{"timeout": {"minutes": 1}}, {"type": "timeout", "seconds": 2}]})),
        with(json!({"decorators": [{"fallback": {"fallback_ref": {"type": "script", "config": {"run": "x"}}}}]})),
        with(json!({"decorators": [{"type": "notification", "config": {"webhook_url": "http://x"}}]})),
        alone(json!({"executor": "agent", "prompt_file": "p.md", "agent": "codex", "tools": ["x"], "session": "s"})),
        alone(json!({"executor": "llm", "prompt": "p", "system": "s", "temperature": 0.5, "max_tokens": 100})),
        alone(json!({"executor": "external"})),
        alone(json!({"executor": "poll", "check_command": "x", "interval_seconds": 2})),
        alone(json!({"executor": "mock_llm", "failure_rate": 0.1, "latency_range": [0, 1], "responses": {"a": 1}})),
        alone(json!({"executor": "script", "command": "x"})),
        alone(json!({"flow": "other"})),
        alone(json!({"for_each": "b.items", "as": "x", "on_error": "fail_fast", "flow": {"steps": {"a": {"run": 1}}}})),
        json!({"version": 1.0, "inputs": ["a"], "requires": ["git", {"name": "x", "check": "y"}], "steps": {"a": {"run": "x"}}}),
    ] {
        let validator = jsonschema::validator_for(schema()).unwrap();
        let errors: Vec<String> = validator.iter_errors(&flow).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{flow}: {errors:?}");
    }
}

#[test]
fn what_is_misspelt_or_cannot_be_does_not_pass() {
    for step in [
        json!({}),
        json!({"rnu": "x"}),
        json!({"run": "x", "outputz": ["a"]}),
        json!({"run": 1, "executor": "agent", "prompt": "x"}),
        json!({"run": "x", "flow": "y"}),
        json!({"executor": "agnet", "prompt": "x"}),
        json!({"executor": "agent"}),
        json!({"executor": "agent", "prompt": "x", "prompt_file": "y"}),
        json!({"executor": "poll"}),
        json!({"for_each": "a.b"}),
        json!({"run": "x", "inputs": {"a": "b"}}),
        json!({"run": "x", "inputs": {"a": {"any_of": ["b.c"]}}}),
        json!({"run": "x", "inputs": {"a": {"from": "b.c", "any_of": ["b.c", "d.e"]}}}),
        json!({"run": "x", "inputs": {"a": {"form": "b.c"}}}),
        json!({"run": "x", "exits": [{"action": "loop"}]}),
        json!({"run": "x", "exits": [{"action": "advence"}]}),
        json!({"run": "x", "exits": [{"when": "x"}]}),
        json!({"run": "x", "when": {"input": "a"}}),
        json!({"run": "x", "on_error": "ignore"}),
        json!({"run": "x", "limits": {"max_cost": 1}}),
        json!({"run": "x", "decorators": [{"type": "retri"}]}),
        json!({"run": "x", "after": [{"any_of": ["b"]}]}),
        json!({"run": "x", "outputs": {"a": {"type": "numbr"}}}),
        json!({"executor": "mock_llm", "failure_rate": 2}),
    ] {
        assert!(!is_valid(&json!({"steps": {"a": step}})), "{step}");
    }
    for flow in
        [json!({}), json!({"steps": {}}), json!({"steps": [], "name": "x"}), json!({"steps": {"a b": {"run": "x"}}})]
    {
        assert!(!is_valid(&flow), "{flow}");
    }
}

#[test]
fn every_key_says_what_it_is_for() {
    let parts = schema()["$defs"].as_object().unwrap();
    for (name, part) in parts.iter().filter(|(_, part)| part.get("properties").is_some()) {
        for (key, field) in part["properties"].as_object().unwrap() {
            assert!(field.get("description").is_some(), "{name}.{key}");
        }
    }
    for keys in [
        keys_of_flow(),
        keys_of_step(),
        keys_of_field(),
        keys_of_requirement(),
        keys_of_input(),
        keys_of_when(),
        keys_of_exit_rule(),
        keys_of_limits(),
        keys_of_cache(),
    ] {
        assert!(keys.len() >= 3, "{keys:?}");
    }
    assert!(keys_of_step().contains(&"for_each") && keys_of_step().contains(&"as"));
}
