//! How a script ended, from the files that it left.

use crate::model::{Exit, Failure, MOST_VALUES, Outcome, is_too_much};
use crate::os::open_plain;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The most that a script may say on stdout, in bytes: it becomes outputs, which are held in memory and in the store.
const STDOUT_MAX: u64 = 8 << 20;
/// How much of the end of stderr goes into a failure's message.
const STDERR_TAIL: u64 = 2048;

/// The outcome of a script whose main process ended so, from its transcripts in `dir`.
pub fn of_script(exit: &Exit, dir: &Path) -> Outcome {
    let result = if exit.code == Some(0) {
        outputs(&dir.join("stdout"))
    } else {
        let tail = tail(&dir.join("stderr"));
        let message = if tail.is_empty() { exit.to_string() } else { format!("{exit}: {tail}") };
        Err(Failure { reason: "ExitStatus".into(), message })
    };
    Outcome { result, usage: None, cost_usd: None, session: None }
}

/// Stdout that is one JSON object is the outputs; other stdout becomes `{"stdout": "…"}`.
fn outputs(path: &Path) -> Result<Map<String, Value>, Failure> {
    let invalid = |message: String| Failure { reason: "OutputInvalid".into(), message };
    let file =
        open_plain(path).map_err(|error| invalid(format!("failed to read stdout ({}): {error}", path.display())))?;
    let mut bytes = Vec::new();
    file.take(STDOUT_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| invalid(format!("failed to read stdout ({}): {error}", path.display())))?;
    if bytes.len() as u64 > STDOUT_MAX {
        return Err(invalid(format!("stdout is longer than {STDOUT_MAX} bytes; write large results to a file")));
    }
    let is_object =
        bytes.trim_ascii_start().first() == Some(&b'{') && serde_json::from_slice::<IgnoredAny>(&bytes).is_ok();
    if is_object && is_too_much(&bytes) {
        return Err(invalid(format!("stdout holds more than {MOST_VALUES} values; write large results to a file")));
    }
    let object = if is_object { serde_json::from_slice(&bytes).ok() } else { None };
    Ok(match object {
        Some(Value::Object(fields)) => fields,
        _ => {
            let text = String::from_utf8_lossy(&bytes);
            let text = text.strip_suffix('\n').unwrap_or(&text).to_owned();
            Map::from_iter([("stdout".to_owned(), Value::String(text))])
        }
    })
}

/// The last lines of a file, on one line each, without control characters but for the line ends.
fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = open_plain(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(STDERR_TAIL)))?;
        let mut bytes = Vec::new();
        file.take(STDERR_TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let clean: String = text.chars().filter(|c| !c.is_control() || *c == '\n').collect();
    let lines: Vec<&str> = clean.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(exit: Exit, stdout: &str, stderr: &str) -> Result<Map<String, Value>, Failure> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("stdout"), stdout).unwrap();
        std::fs::write(dir.path().join("stderr"), stderr).unwrap();
        of_script(&exit, dir.path()).result
    }

    #[test]
    fn a_script_gives_its_json_object_or_its_text_or_the_end_of_its_stderr() {
        let zero = Exit { code: Some(0), ..Exit::default() };
        assert_eq!(outcome(zero.clone(), "{\"a\": 1}\n", "").unwrap()["a"], 1);
        assert_eq!(outcome(zero.clone(), "[1, 2]\n", "").unwrap()["stdout"], "[1, 2]");
        assert_eq!(outcome(zero, "", "").unwrap()["stdout"], "");
        let failure = outcome(Exit { code: Some(3), ..Exit::default() }, "", "one\ntwo\n").unwrap_err();
        assert_eq!(failure.message, "exit status 3: one\ntwo");
    }
}
