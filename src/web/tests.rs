//! The pure parts: what is asked, what an answer means, when it is tried again, and what a report makes of a run.

use super::answer::{self, Complaint, complaint};
use super::chat::{Judgement, Key, endpoint, judge, key, masked};
use super::http::{NoReply, Reply, Target};
use super::request::parse;
use super::retry::{pause, retry_after};
use super::*;
use crate::flow::{Field, FieldType};
use crate::model::{Exit, Failure, MOST_VALUES, Time};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn request(outputs: Value) -> ChatRequest {
    let outputs: BTreeMap<String, OutputSchema> = serde_json::from_value(outputs).unwrap();
    ChatRequest { outputs, ..ChatRequest::new("m".into(), "Judge it.".into()) }
}

fn two() -> ChatRequest {
    request(json!({"verdict": {}, "score": {"type": "number"}}))
}

fn environment(set: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<String> {
    |name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

// What is asked.

#[test]
fn a_request_file_holds_what_it_has_to_and_the_limits_are_the_defaults() {
    let text = br#"{"version": 1, "model": "m", "prompt": "Judge it."}"#;
    let read: ChatRequest = parse(text).unwrap();
    assert_eq!(read, ChatRequest::new("m".into(), "Judge it.".into()));
    assert_eq!((read.timeout_ms, read.retry_for_ms), (600_000, 60_000));
    let full = ChatRequest {
        base_url: Some("http://h".into()),
        system: Some("Be brief.".into()),
        temperature: Some(0.2),
        max_tokens: Some(5),
        ..two()
    };
    assert_eq!(parse(serde_json::to_string(&full).unwrap().as_bytes()), Ok(full));
    let notify: NotifyRequest = parse(br#"{"version": 1, "url": "http://h", "body": {"a": 1}}"#).unwrap();
    assert_eq!(notify.timeout_ms, 10_000);
}

#[test]
fn a_request_file_that_makes_no_sense_is_refused() {
    let wrong = |text: &str| parse::<ChatRequest>(text.as_bytes()).unwrap_err();
    insta::assert_snapshot!(
        [wrong(r#"{"version": 2}"#), wrong("{}"), wrong("{\"version\": 1, \"model\": \"m\"}"), wrong("garbage")].join("\n"),
        @r"
    has format 2, and this program knows 1: use the version that wrote it
    cannot be understood: missing field `version` at line 1 column 2
    cannot be understood: missing field `prompt` at line 1 column 28
    cannot be understood: expected value at line 1 column 1
    ");
}

#[test]
fn without_declared_outputs_only_the_text_is_asked_for() {
    let plain = json!({"model": "m", "messages": [{"role": "user", "content": "Judge it."}]});
    assert_eq!(request(json!({})).body("h"), plain);
    assert_eq!(request(json!({"response": {}})).body("h"), plain);
    let all = ChatRequest {
        system: Some("Be brief.".into()),
        temperature: Some(0.0),
        max_tokens: Some(5),
        model: " m ".into(),
        ..request(json!({}))
    };
    let messages = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Judge it."}]);
    assert_eq!(all.body("h"), json!({"model": "m", "messages": messages, "temperature": 0.0, "max_tokens": 5}));
    assert_eq!(
        all.body("api.openai.com"),
        json!({"model": "m", "messages": messages, "temperature": 0.0, "max_completion_tokens": 5})
    );
    assert_eq!(all.body("openrouter.ai")["usage"], json!({"include": true}));
}

#[test]
fn declared_outputs_become_a_tool_that_has_to_be_called() {
    let field = Field { r#type: FieldType::Number, min: Some(1.0), max: Some(5.0), required: true, ..Field::default() };
    let mut asked = request(json!({
        "verdict": {"type": "choice", "options": ["yes", "no"], "description": "Whether it is good"},
        "mixed": {"type": "choice", "options": ["a", 1]},
        "sure": {"type": "bool"},
        "note": {"type": "text", "required": false},
        "any": {},
    }));
    asked.outputs.insert("score".into(), OutputSchema::from(&field));
    let body = asked.body("h");
    assert_eq!(body["tool_choice"], "required");
    assert_eq!(
        body["tools"],
        json!([{"type": "function", "function": {
            "name": "step_output",
            "description": "Gives the result. Call it once, with every field that is required.",
            "parameters": {
                "type": "object",
                "properties": {
                    "any": {"type": "string"},
                    "mixed": {"enum": ["a", 1]},
                    "note": {"type": "string"},
                    "score": {"type": "number", "minimum": 1.0, "maximum": 5.0},
                    "sure": {"type": "boolean"},
                    "verdict": {"type": "string", "enum": ["yes", "no"], "description": "Whether it is good"},
                },
                "required": ["any", "mixed", "score", "sure", "verdict"],
                "additionalProperties": false,
            },
        }}])
    );
    let defaulted = Field { default: Some(json!(3)), ..field };
    assert!(!OutputSchema::from(&defaulted).required, "the flow fills in what has a default");
}

#[test]
fn the_file_names_the_endpoint_else_the_environment_else_it_is_openrouter() {
    let at = |base: Option<&str>, set: &'static [(&str, &str)]| {
        endpoint(&ChatRequest { base_url: base.map(str::to_owned), ..two() }, environment(set)).map(|t| t.url)
    };
    assert_eq!(at(None, &[]).unwrap(), "https://openrouter.ai/api/v1/chat/completions");
    let set = &[("TENURE_LLM_BASE_URL", "http://127.0.0.1:1/v1/")];
    assert_eq!(at(None, set).unwrap(), "http://127.0.0.1:1/v1/chat/completions");
    assert_eq!(at(Some("https://h/x"), set).unwrap(), "https://h/x/chat/completions");
    assert_eq!(at(None, &[("TENURE_LLM_BASE_URL", "")]).unwrap(), "https://openrouter.ai/api/v1/chat/completions");
    let wrong =
        [at(Some("ftp://h"), &[]), at(None, &[("TENURE_LLM_BASE_URL", "example.com/v1")]), at(Some("http://a b"), &[])];
    insta::assert_snapshot!(wrong.map(Result::unwrap_err).join("\n"), @r"
    baseUrl does not begin with http:// or https://
    $TENURE_LLM_BASE_URL does not begin with http:// or https://
    baseUrl is no URL (invalid uri character)
    ");
    let target = Target::parse("https://user:secret@Hooks.Example.com:8443/secret").unwrap();
    assert_eq!((target.host.as_str(), target.shown.as_str()), ("hooks.example.com", "hooks.example.com:8443"));
}

#[test]
fn a_key_goes_to_whom_it_is_meant_for() {
    let named = |host: &str, set: &'static [(&str, &str)]| key(host, environment(set)).map(|key| key.name);
    let all = &[("TENURE_LLM_API_KEY", "t"), ("OPENROUTER_API_KEY", "r"), ("OPENAI_API_KEY", "o")];
    let vendors = &[("TENURE_LLM_API_KEY", " "), ("OPENROUTER_API_KEY", "r"), ("OPENAI_API_KEY", "o")];
    assert_eq!(named("openrouter.ai", all), Some("TENURE_LLM_API_KEY"));
    assert_eq!(named("api.openai.com", all), Some("TENURE_LLM_API_KEY"));
    assert_eq!(named("openrouter.ai", vendors), Some("OPENROUTER_API_KEY"));
    assert_eq!(named("api.openai.com", vendors), Some("OPENAI_API_KEY"));
    assert_eq!(named("openrouter.ai", &[("OPENAI_API_KEY", "o")]), None);
    assert_eq!(named("127.0.0.1", &[("OPENROUTER_API_KEY", "r")]), Some("OPENROUTER_API_KEY"));
    assert_eq!(named("h", &[]), None);
}

// What an answer means.

fn reads(request: &ChatRequest, body: &Value) -> Report {
    match answer::read(request, body.to_string().as_bytes()) {
        Ok(report) => report,
        Err(_) => panic!("an error: {body}"),
    }
}

fn says(content: &str) -> Value {
    json!({"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": content}}]})
}

fn calls(arguments: &Value) -> Value {
    let call = json!({"id": "1", "type": "function", "function": {"name": "step_output", "arguments": arguments}});
    json!({"choices": [{"finish_reason": "tool_calls", "message": {"content": null, "tool_calls": [call]}}]})
}

#[test]
fn declared_outputs_are_read_from_a_tool_call_or_from_json_in_the_content() {
    let expected = json!({"verdict": "yes", "score": 3});
    let text = expected.to_string();
    for body in [
        calls(&json!(text)),
        calls(&expected),
        says(&text),
        says(&format!("```json\n{text}\n```")),
        says(&format!("It is good.\n\n```\n{text}\n```\nIs there more?")),
        says(&format!("For `{{}}` see above. ```{{\"a\": 1}}``` would be wrong:\n```json\n{text}```")),
        says(&format!("My verdict: {text}. That is all.")),
        json!({"choices": [{"message": {"content": [{"type": "text", "text": text}]}}]}),
    ] {
        let report = reads(&two(), &body);
        assert_eq!(report.outputs.map(Value::from), Some(expected.clone()), "{body}");
        assert_eq!(report.failure, None);
    }
    let mut whole = calls(&json!(text));
    whole["choices"][0]["finish_reason"] = json!("length");
    assert!(reads(&two(), &whole).outputs.is_some(), "it was whole before it was cut off");
}

#[test]
fn text_is_the_response_and_what_was_paid_for_it_is_told() {
    let mut body = says("  Fine.\n");
    body["model"] = json!("vendor/m-2");
    body["usage"] = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost": 0.25});
    let report = reads(&request(json!({"response": {}})), &body);
    let usage = json!({"inputTokens": 10, "outputTokens": 5, "totalTokens": 15});
    assert_eq!(
        serde_json::to_value(report).unwrap(),
        json!({"outputs": {"response": "Fine."}, "usage": usage, "costUsd": 0.25, "model": "vendor/m-2"})
    );
    assert_eq!(
        serde_json::to_value(reads(&request(json!({})), &says("Fine."))).unwrap(),
        json!({"outputs": {"response": "Fine."}}),
        "no cost is made up"
    );
}

#[test]
fn one_declared_output_may_be_said_without_ceremony() {
    let alone = |schema: Value, content: &str| reads(&request(json!({"x": schema})), &says(content)).outputs.unwrap();
    assert_eq!(Value::from(alone(json!({}), " fine ")), json!({"x": "fine"}));
    assert_eq!(Value::from(alone(json!({}), "42")), json!({"x": "42"}));
    assert_eq!(Value::from(alone(json!({"type": "number"}), "42")), json!({"x": 42}));
    assert_eq!(Value::from(alone(json!({"type": "bool"}), "who knows")), json!({"x": "who knows"}));
}

#[test]
fn an_answer_that_is_none_says_why() {
    let choice = |choice: Value| json!({"choices": [choice], "usage": {"total_tokens": 7}});
    let told = |request: &ChatRequest, body: &Value| {
        let report = reads(request, body);
        assert_eq!(report.outputs, None);
        assert_eq!(report.usage.is_some(), body["usage"].is_object(), "it was paid for all the same: {body}");
        let Failure { reason, message } = report.failure.unwrap();
        format!("{reason}: {message}")
    };
    let text = request(json!({}));
    let refused = choice(json!({"message": {"content": null, "refusal": "I can't\nhelp."}}));
    let filtered = choice(json!({"finish_reason": "content_filter", "message": {"content": ""}}));
    let cut = choice(json!({"finish_reason": "length", "message": {"content": "Once upon a"}}));
    let mut cut_call = calls(&json!("{\"verdict\": \"ye"));
    cut_call["choices"][0]["finish_reason"] = json!("length");
    let other = json!({"function": {"name": "other", "arguments": "{}"}});
    let other = choice(json!({"finish_reason": "tool_calls", "message": {"content": null, "tool_calls": [other]}}));
    let all = [
        told(&two(), &refused),
        told(&text, &filtered),
        told(&text, &cut),
        told(&two(), &cut_call),
        told(&two(), &other),
        told(&two(), &says("Fine.")),
        told(&two(), &calls(&json!("[1]"))),
        told(&text, &says("  ")),
        told(&text, &json!({"choices": []})),
        told(&text, &json!([])),
    ];
    insta::assert_snapshot!(all.join("\n"), @r"
    LlmRefused: the model refused to answer: I can't help.
    LlmRefused: the model refused to answer
    LlmTruncated: the answer was cut off at the limit of tokens; raise `max_tokens`, or ask for less
    LlmTruncated: the answer was cut off at the limit of tokens; raise `max_tokens`, or ask for less
    LlmAnswerInvalid: the answer is empty (finish_reason: tool_calls)
    LlmAnswerInvalid: the answer holds neither a tool call nor a JSON object: Fine.
    LlmAnswerInvalid: the answer is empty (finish_reason: tool_calls)
    LlmAnswerInvalid: the answer is empty (finish_reason: stop)
    LlmAnswerInvalid: the answer holds no message of the model
    LlmAnswerInvalid: the answer holds no message of the model
    ");
}

#[test]
fn garbage_and_floods_are_no_answer() {
    let read = |body: &[u8]| match answer::read(&two(), body) {
        Ok(report) => report.failure.unwrap(),
        Err(_) => panic!("an error"),
    };
    let failure = read(b"<html>\x1b[2J  Bad\ngateway\xff</html>");
    assert_eq!(failure.reason, "LlmAnswerInvalid");
    assert!(failure.message.ends_with("<html> [2J Bad gateway\u{fffd}</html>"), "{}", failure.message);
    assert!(read(&vec![b'x'; 1 << 20]).message.len() < 2000);
    assert!(read("ü".repeat(100_000).as_bytes()).message.len() < 2000);
    let deep = format!("{{\"choices\": {}1{}}}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(read(deep.as_bytes()).reason, "LlmAnswerInvalid");
    let flood = format!("[{}1]", "1,".repeat(MOST_VALUES + 1));
    assert_eq!(read(flood.as_bytes()).message, "the answer holds more than 100000 values");
    let hidden = says(&format!("{{\"a\": {flood}}}"));
    assert_eq!(read(hidden.to_string().as_bytes()).reason, "LlmAnswerInvalid");
}

#[test]
fn an_error_is_understood_wherever_it_stands() {
    let error = |body: Value| match answer::read(&two(), body.to_string().as_bytes()) {
        Err(Complaint { status, message }) => (status, message),
        Ok(report) => panic!("{report:?}"),
    };
    assert_eq!(error(json!({"error": {"code": 502, "message": "No provider"}})), (Some(502), "No provider".into()));
    assert_eq!(error(json!({"error": "broken"})), (None, "broken".into()));
    let in_choice = json!({"choices": [{"error": {"code": 429, "message": "Slow down"}, "message": {"content": ""}}]});
    assert_eq!(error(in_choice), (Some(429), "Slow down".into()));
    for (body, expected) in [
        (
            r#"{"error": {"message": "Provider returned error", "metadata": {"raw": "too long"}}}"#,
            "Provider returned error: too long",
        ),
        (r#"{"error": {"message": "bad", "code": "invalid_api_key"}}"#, "bad"),
        (r#"{"message": "bad"}"#, "bad"),
        (r#"{"detail": "bad"}"#, "bad"),
        (r#"{"a": 1}"#, r#"{"a":1}"#),
        ("\"bad\"", "\"bad\""),
        ("Not found\n", "Not found"),
        ("", ""),
    ] {
        assert_eq!(complaint(body.as_bytes()), expected, "{body}");
    }
}

// When it is tried again.

fn judged(key_name: Option<&'static str>, reply: Result<Reply, NoReply>) -> Judgement {
    let target = Target::parse("https://llm.example/v1").unwrap();
    let key = key_name.map(|name| Key { name, value: "sk-secret".into() });
    judge(&two(), &target, key.as_ref(), reply)
}

fn status(status: u16, body: &str) -> Result<Reply, NoReply> {
    Ok(Reply { status, retry_after: Some(SECOND), body: body.into() })
}

#[test]
fn what_may_pass_is_tried_again_and_the_rest_is_final() {
    let error = r#"{"error": {"message": "it says so"}}"#;
    let hidden = r#"{"error": {"message": "it says so", "code": 503}}"#;
    let set = Some("OPENAI_API_KEY");
    let all = [
        (None, status(429, error)),
        (None, status(503, "")),
        (None, status(200, hidden)),
        (None, Err(NoReply::Unreachable("connection refused".into()))),
        (None, Err(NoReply::TimedOut)),
        (None, Err(NoReply::Hopeless("invalid peer certificate: Expired".into()))),
        (None, status(401, error)),
        (set, status(401, error)),
        (set, status(403, error)),
        (None, status(402, error)),
        (None, status(404, error)),
        (None, status(400, error)),
        (None, status(308, "")),
        (None, status(200, error)),
        (None, status(200, "")),
    ];
    let lines = all.map(|(key, reply)| {
        let (word, report) = match judged(key, reply) {
            Judgement::Done(report) => ("final".to_owned(), report),
            Judgement::Again(report, asked) => (format!("again {asked:?}"), report),
        };
        let Failure { reason, message } = report.failure.unwrap();
        format!("{word}: {reason}: {message}")
    });
    insta::assert_snapshot!(lines.join("\n"), @r"
    again Some(1s): LlmUnavailable: llm.example answered 429 Too Many Requests: it says so; try again later
    again Some(1s): LlmUnavailable: llm.example answered 503 Service Unavailable; try again later
    again Some(1s): LlmUnavailable: llm.example answered 503 Service Unavailable: it says so; try again later
    again None: LlmUnavailable: failed to reach llm.example: connection refused; is the base URL right ($TENURE_LLM_BASE_URL)?
    final: LlmTimedOut: llm.example gave no whole answer within 10m
    final: LlmUnavailable: failed to ask llm.example: invalid peer certificate: Expired
    final: LlmUnauthorized: llm.example answered 401 Unauthorized: it says so; set TENURE_LLM_API_KEY in the controller's environment
    final: LlmUnauthorized: llm.example answered 401 Unauthorized: it says so; check the key in $OPENAI_API_KEY
    final: LlmUnauthorized: llm.example answered 403 Forbidden: it says so; check the key in $OPENAI_API_KEY
    final: LlmRejected: llm.example answered 402 Payment Required: it says so; the account needs credit
    final: LlmRejected: llm.example answered 404 Not Found: it says so; check the model's name and the base URL ($TENURE_LLM_BASE_URL)
    final: LlmRejected: llm.example answered 400 Bad Request: it says so; correct the request
    final: LlmRejected: llm.example answered 308 Permanent Redirect; it is somewhere else: correct the base URL ($TENURE_LLM_BASE_URL)
    final: LlmRejected: llm.example answered 200 OK: it says so; correct the request
    final: LlmAnswerInvalid: the answer is not JSON (EOF while parsing a value at line 1 column 0)
    ");
}

#[test]
fn pauses_grow_are_spread_keep_what_the_server_asks_and_end() {
    let of = |tries, elapsed, asked, spread| {
        pause(tries, SECOND * elapsed, SECOND * 60, asked, spread).map(|pause| pause.as_millis())
    };
    let doubled: Vec<_> = (1..=8).map(|tries| of(tries, 0, None, 1.0).unwrap()).collect();
    assert_eq!(doubled, [500, 1000, 2000, 4000, 8000, 16000, 16000, 16000]);
    assert_eq!(of(1, 0, None, 0.0), Some(250));
    assert_eq!(of(1, 0, None, f64::NAN.max(9.0)), Some(500));
    assert_eq!(of(u32::MAX, 0, None, 1.0), Some(16000));
    assert_eq!(of(1, 0, Some(SECOND * 5), 0.0), Some(5250));
    assert_eq!(of(1, 0, Some(Duration::ZERO), 0.0), Some(250), "a server that asks for no pause gets one");
    assert_eq!(of(1, 59, None, 1.0), Some(500));
    assert_eq!(of(1, 60, None, 0.0), None);
    assert_eq!(of(1, 0, Some(SECOND * 60), 0.0), None, "what lies beyond the end is not waited for");
    assert_eq!(of(1, 0, Some(Duration::MAX), 1.0), None);
}

#[test]
fn a_server_asks_for_a_pause_in_seconds_or_by_date() {
    let now = Time(1_445_412_470_000); // 2015-10-21T07:27:50Z
    for (header, expected) in [
        ("3", Some(SECOND * 3)),
        (" 0.5 ", Some(SECOND / 2)),
        ("-1", Some(Duration::ZERO)),
        ("Wed, 21 Oct 2015 07:28:00 GMT", Some(SECOND * 10)),
        ("Wed, 21 Oct 2015 07:00:00 GMT", Some(Duration::ZERO)),
        ("soon", None),
        ("NaN", Some(Duration::ZERO)),
        ("inf", None),
        ("", None),
    ] {
        assert_eq!(retry_after(header, now), expected, "{header}");
    }
}

#[test]
fn a_key_that_the_server_repeats_is_not_told_on() {
    let key = Key { name: "OPENAI_API_KEY", value: "sk-secret".into() };
    let Judgement::Done(report) = judged(Some(key.name), status(401, "bad key: sk-secret!")) else { panic!() };
    let message = masked(report, Some(&key)).failure.unwrap().message;
    assert_eq!(message, "llm.example answered 401 Unauthorized: bad key: ***!; check the key in $OPENAI_API_KEY");
}

#[test]
fn a_notification_is_delivered_by_any_success() {
    let target = Target::parse("https://hooks.example/services/secret").unwrap();
    let lines = [
        status(204, ""),
        status(503, ""),
        status(429, ""),
        status(404, ""),
        status(301, ""),
        Err(NoReply::Unreachable("connection refused".into())),
        Err(NoReply::TimedOut),
        Err(NoReply::Hopeless("tls".into())),
    ]
    .map(|reply| {
        let (again, message) = super::notify::judge(&target, &reply);
        format!("{again}: {}", message.unwrap_or("delivered".into()))
    });
    insta::assert_snapshot!(lines.join("\n"), @r"
    false: delivered
    true: hooks.example answered 503 Service Unavailable; it is not well, or busy
    true: hooks.example answered 429 Too Many Requests; it is not well, or busy
    false: hooks.example answered 404 Not Found; check `webhook_url`
    false: hooks.example answered 301 Moved Permanently; it is somewhere else: correct `webhook_url`
    true: failed to reach hooks.example: connection refused
    false: hooks.example did not answer in time
    false: failed to ask hooks.example: tls
    ");
}

// What a report makes of a run.

fn ended(code: i32) -> Exit {
    Exit { code: Some(code), ..Exit::default() }
}

#[test]
fn a_report_becomes_the_outcome_of_its_run() {
    let text = r#"{"outputs": {"a": 1}, "usage": {"totalTokens": 3}, "costUsd": 0.5, "model": "m"}"#;
    let done = outcome(&ended(0), text.as_bytes());
    assert_eq!(done.result, Ok(Map::from_iter([("a".to_owned(), json!(1))])));
    assert_eq!((done.usage, done.cost_usd, done.session), (Some(json!({"totalTokens": 3})), Some(0.5), None));
    let text = r#"{"failure": {"reason": "LlmRefused", "message": "no"}, "usage": {"totalTokens": 3}, "costUsd": 0.5}"#;
    let failed = outcome(&ended(1), text.as_bytes());
    assert_eq!(failed.result, Err(Failure { reason: "LlmRefused".into(), message: "no".into() }));
    assert_eq!((failed.usage, failed.cost_usd), (Some(json!({"totalTokens": 3})), Some(0.5)), "it was paid for");
}

#[test]
fn half_a_report_garbage_and_a_request_that_was_stopped_are_failures() {
    let good = br#"{"outputs": {"a": 1}}"#;
    let told = |exit: Exit, stdout: &[u8]| {
        let outcome = outcome(&exit, stdout);
        assert_eq!((outcome.cost_usd, outcome.usage), (None, None));
        let failure = outcome.result.unwrap_err();
        format!("{}: {}", failure.reason, failure.message)
    };
    let flood = format!("{{\"outputs\": {{\"a\": [{}1]}}}}", "1,".repeat(MOST_VALUES));
    let all = [
        told(ended(0), b""),
        told(ended(0), br#"{"outputs": {"a""#),
        told(ended(0), b"{}"),
        told(ended(0), br#"{"outputs": [1], "costUsd": -1}"#),
        told(ended(0), flood.as_bytes()),
        told(ended(0), &vec![b' '; REPORT_MAX + 1]),
        told(ended(1), good),
        told(ended(101), b"\xff\x00"),
        told(Exit { signal: Some("SIGKILL".into()), ..Exit::default() }, good),
        told(Exit { message: Some("lease expired".into()), ..Exit::default() }, b""),
    ];
    insta::assert_snapshot!(all.join("\n"), @r"
    ExitStatus: the request ended with exit status 0, but its stdout holds no result
    ExitStatus: the request ended with exit status 0, but its stdout holds no result
    ExitStatus: the request ended with exit status 0, but its stdout holds no result
    ExitStatus: the request ended with exit status 0, but its stdout holds no result
    ExitStatus: the request ended with exit status 0, but its stdout holds more than 100000 values
    ExitStatus: the request ended with exit status 0, but its stdout is longer than 16777216 bytes
    ExitStatus: the request ended with exit status 1, but its stdout holds no result
    ExitStatus: the request ended with exit status 101, but its stdout holds no result
    ExitStatus: the request ended before it was answered: SIGKILL
    ExitStatus: the request ended before it was answered: lease expired
    ");
    let odd = br#"{"outputs": {}, "usage": 3, "costUsd": -1.5}"#;
    let outcome = outcome(&ended(0), odd);
    assert_eq!((outcome.usage, outcome.cost_usd), (None, None));
}
