//! What is asked: the files that the controller writes for its two subcommands, and the chat completion made of one.

use crate::flow::{Field, FieldType};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// The format of both files.
pub const FORMAT: u32 = 1;

/// The tool that the model has to call. Stepwise's name for it: prompts may speak of it.
pub(super) const TOOL: &str = "step_output";

/// The output that takes the model's text as it is.
pub(super) const TEXT_OUTPUT: &str = "response";

/// No request file is larger.
const LARGEST_BYTES: u64 = 16 << 20;

/// `tenure llm-request FILE`: one chat completion. The key is not in here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChatRequest {
    /// [`FORMAT`].
    pub version: u32,
    /// Where the endpoint is, without `/chat/completions`; unset: `$TENURE_LLM_BASE_URL`, else OpenRouter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The model.
    pub model: String,
    /// The system message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The user's message.
    pub prompt: String,
    /// As the API takes it; unset: not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The most tokens of the answer; unset: not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// What the step declares. None, or only `response`: the answer's text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, OutputSchema>,
    /// How long one attempt may take.
    #[serde(default = "ten_minutes")]
    pub timeout_ms: u64,
    /// How long after the begin a further attempt may start.
    #[serde(default = "one_minute")]
    pub retry_for_ms: u64,
}

/// `tenure notify FILE`: a webhook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotifyRequest {
    /// [`FORMAT`].
    pub version: u32,
    /// Where to.
    pub url: String,
    /// What.
    pub body: Value,
    /// How long it may take, with all attempts.
    #[serde(default = "ten_seconds")]
    pub timeout_ms: u64,
}

/// The schema of one declared output.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutputSchema {
    /// For the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it must be.
    #[serde(default)]
    pub r#type: OutputType,
    /// For `choice`: what it may be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<Value>,
    /// For numbers: the least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// For numbers: the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Whether it must be given.
    #[serde(default = "yes")]
    pub required: bool,
}

/// What an output must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names of the flow language")]
pub enum OutputType {
    /// Nothing was said. The model is asked for text, as flows of Stepwise expect it.
    #[default]
    Any,
    Str,
    Text,
    Number,
    Bool,
    Choice,
}

impl From<&Field> for OutputSchema {
    fn from(field: &Field) -> OutputSchema {
        OutputSchema {
            description: field.description.clone(),
            r#type: match field.r#type {
                FieldType::Any => OutputType::Any,
                FieldType::Str => OutputType::Str,
                FieldType::Text => OutputType::Text,
                FieldType::Number => OutputType::Number,
                FieldType::Bool => OutputType::Bool,
                FieldType::Choice => OutputType::Choice,
            },
            options: field.options.clone(),
            min: field.min,
            max: field.max,
            required: field.required && field.default.is_none(),
        }
    }
}

impl ChatRequest {
    /// A request with the default limits, and nothing that may be left out.
    pub fn new(model: String, prompt: String) -> ChatRequest {
        ChatRequest {
            version: FORMAT,
            base_url: None,
            model,
            system: None,
            prompt,
            temperature: None,
            max_tokens: None,
            outputs: BTreeMap::new(),
            timeout_ms: ten_minutes(),
            retry_for_ms: one_minute(),
        }
    }

    /// Whether the answer's text is the output.
    pub(super) fn wants_text(&self) -> bool {
        self.outputs.keys().all(|name| name == TEXT_OUTPUT)
    }

    /// The body of the request, for an endpoint on `host`.
    pub(super) fn body(&self, host: &str) -> Value {
        let mut messages = Vec::new();
        messages.extend(self.system.as_ref().map(|text| json!({"role": "system", "content": text})));
        messages.push(json!({"role": "user", "content": self.prompt}));
        let mut body = Map::new();
        body.insert("model".into(), json!(self.model.trim()));
        body.insert("messages".into(), Value::Array(messages));
        if let Some(temperature) = self.temperature {
            body.insert("temperature".into(), json!(temperature));
        }
        if let Some(most) = self.max_tokens {
            // Newer models of OpenAI refuse the name that everybody else knows.
            let name = if host == "api.openai.com" { "max_completion_tokens" } else { "max_tokens" };
            body.insert(name.into(), json!(most));
        }
        if !self.wants_text() {
            body.insert("tools".into(), json!([self.tool()]));
            // "Some tool" instead of this one by name: it is the only one, and not every provider can be told a name.
            body.insert("tool_choice".into(), json!("required"));
        }
        if is_openrouter(host) {
            // It tells the cost when asked; others refuse what they do not know.
            body.insert("usage".into(), json!({"include": true}));
        }
        Value::Object(body)
    }

    fn tool(&self) -> Value {
        let properties: Map<String, Value> =
            self.outputs.iter().map(|(name, output)| (name.clone(), output.json_schema())).collect();
        let required: Vec<&String> =
            self.outputs.iter().filter(|(_, output)| output.required).map(|(name, _)| name).collect();
        json!({"type": "function", "function": {
            "name": TOOL,
            "description": "Gives the result. Call it once, with every field that is required.",
            "parameters": {
                "type": "object", "properties": properties, "required": required, "additionalProperties": false,
            },
        }})
    }
}

impl OutputSchema {
    fn json_schema(&self) -> Value {
        let mut schema = Map::new();
        let all_text = self.options.iter().all(Value::is_string);
        match self.r#type {
            OutputType::Number => {
                schema.insert("type".into(), json!("number"));
                schema.extend(self.min.map(|min| ("minimum".into(), json!(min))));
                schema.extend(self.max.map(|max| ("maximum".into(), json!(max))));
            }
            OutputType::Bool => {
                schema.insert("type".into(), json!("boolean"));
            }
            OutputType::Choice if !self.options.is_empty() => {
                schema.extend(all_text.then(|| ("type".into(), json!("string"))));
                schema.insert("enum".into(), json!(self.options));
            }
            OutputType::Any | OutputType::Str | OutputType::Text | OutputType::Choice => {
                schema.insert("type".into(), json!("string"));
            }
        }
        schema.extend(self.description.as_ref().map(|text| ("description".into(), json!(text))));
        Value::Object(schema)
    }
}

/// Whether a host is OpenRouter's.
pub(super) fn is_openrouter(host: &str) -> bool {
    host == "openrouter.ai" || host.ends_with(".openrouter.ai")
}

/// A request file; or what is wrong with it.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let shown = path.display();
    let file = std::fs::File::open(path).map_err(|error| format!("failed to read {shown}: {error}"))?;
    let mut bytes = Vec::new();
    file.take(LARGEST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| format!("failed to read {shown}: {error}"))?;
    if bytes.len() as u64 > LARGEST_BYTES {
        return Err(format!("{shown} is longer than {LARGEST_BYTES} bytes"));
    }
    parse(&bytes).map_err(|error| format!("{shown} {error}"))
}

/// A request; or what is wrong with its text: fits behind its name.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } =
        serde_json::from_slice(bytes).map_err(|error| format!("cannot be understood: {error}"))?;
    if version != FORMAT {
        return Err(format!("has format {version}, and this program knows {FORMAT}: use the version that wrote it"));
    }
    serde_json::from_slice(bytes).map_err(|error| format!("cannot be understood: {error}"))
}

fn ten_minutes() -> u64 {
    10 * 60 * 1000
}

fn one_minute() -> u64 {
    60 * 1000
}

fn ten_seconds() -> u64 {
    10 * 1000
}

fn yes() -> bool {
    true
}
