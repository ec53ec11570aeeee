//! Names: what may be one, which one was meant, and how a bare flow and its job are called.

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::Path;

const LONGEST: usize = 253;

/// Whether a text can be the name of an object.
pub fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.len() <= LONGEST && text.chars().all(plain) && !text.starts_with(['.', '-'])
}

/// The one of these that was probably meant.
pub fn similar<'a>(text: &str, among: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = text.to_lowercase();
    let close = |candidate: &str| strsim::jaro_winkler(&lower, &candidate.to_lowercase());
    among
        .into_iter()
        .map(|candidate| (close(candidate), candidate))
        .filter(|(closeness, _)| *closeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// The name of a bare flow: what it says, else what its file is called (`FLOW.yaml`: its directory).
pub fn flow_name(file: &str, value: &Value) -> String {
    let said = value.get("name").and_then(Value::as_str).map(str::to_owned);
    let called = || {
        let path = Path::new(file);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("flow");
        let stem = name.split('.').next().unwrap_or(name);
        if stem.eq_ignore_ascii_case("flow") {
            let dir = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
            return dir.unwrap_or(stem).to_owned();
        }
        stem.to_owned()
    };
    let text = said.filter(|text| !text.is_empty()).unwrap_or_else(called);
    let safe: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' }).collect();
    let safe = safe.trim_start_matches(['.', '-']);
    let safe: String = safe.chars().take(200).collect();
    if safe.is_empty() { "flow".to_owned() } else { safe }
}

/// The name of the job of a bare flow: the flow's, and 8 hex digits of the hash of its content.
pub fn job_name(flow: &str, value: &Value) -> String {
    let hash = Sha256::digest(value.to_string().as_bytes());
    let digits: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{flow}-{digits}")
}
