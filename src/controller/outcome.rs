//! How a script, a check, or a request ended, from the files that it left.

use super::settle::Process;
use crate::model::{Exit, Failure, MOST_VALUES, Outcome, is_too_much};
use crate::os::open_plain;
use crate::web;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The most that a script may say on stdout, in bytes: it becomes outputs, which are held in memory and in the store.
const STDOUT_MAX: u64 = 8 << 20;
/// How much of the end of stderr goes into a failure's message.
const STDERR_TAIL: u64 = 2048;

/// The outcome of a program whose main process ended so, from its transcripts in `dir`.
pub(super) fn of(what: Process, exit: &Exit, dir: &Path) -> Outcome {
    match what {
        Process::Script => of_script(exit, dir),
        Process::Check => outcome(of_check(exit, dir)),
        Process::Requirement | Process::Notification => outcome(succeeded(exit, dir).map(|()| Map::new())),
        Process::Llm => web::outcome(exit, &beginning(&dir.join("stdout"), web::REPORT_MAX as u64 + 1)),
    }
}

/// The outcome of a script whose main process ended so, from its transcripts in `dir`.
pub fn of_script(exit: &Exit, dir: &Path) -> Outcome {
    outcome(succeeded(exit, dir).and_then(|()| outputs(&dir.join("stdout"))))
}

/// A check that found something gives an object, if only an empty one; one that has nothing to say gives its silence, as a script
/// does. Anything else is an error.
fn of_check(exit: &Exit, dir: &Path) -> Result<Map<String, Value>, Failure> {
    succeeded(exit, dir)?;
    match said(&dir.join("stdout"))? {
        Said::Object(fields) => Ok(fields),
        Said::Text(text) if text.trim().is_empty() => Ok(Map::from_iter([("stdout".to_owned(), "".into())])),
        Said::Text(text) => {
            let text: String = text.chars().take(200).collect();
            Err(Failure { reason: "OutputInvalid".into(), message: format!("it printed no JSON object, but: {text}") })
        }
    }
}

/// Whether it ended well; if not: how, with the last that it said on stderr.
fn succeeded(exit: &Exit, dir: &Path) -> Result<(), Failure> {
    if exit.code == Some(0) {
        return Ok(());
    }
    let tail = tail(&dir.join("stderr"));
    let message = if tail.is_empty() { exit.to_string() } else { format!("{exit}: {tail}") };
    Err(Failure { reason: "ExitStatus".into(), message })
}

fn outcome(result: Result<Map<String, Value>, Failure>) -> Outcome {
    Outcome { result, usage: None, cost_usd: None, session: None }
}

/// The first bytes of a file; of one that cannot be read, none.
fn beginning(path: &Path, most_bytes: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = open_plain(path).and_then(|file| file.take(most_bytes).read_to_end(&mut bytes));
    read.map(|_| bytes).unwrap_or_default()
}

/// What a program printed.
enum Said {
    /// One JSON object.
    Object(Map<String, Value>),
    /// Something else.
    Text(String),
}

/// Stdout that is one JSON object is the outputs; other stdout becomes `{"stdout": "…"}`.
fn outputs(path: &Path) -> Result<Map<String, Value>, Failure> {
    Ok(match said(path)? {
        Said::Object(fields) => fields,
        Said::Text(text) => Map::from_iter([("stdout".to_owned(), Value::String(text))]),
    })
}

fn said(path: &Path) -> Result<Said, Failure> {
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
        Some(Value::Object(fields)) => Said::Object(fields),
        _ => {
            let text = String::from_utf8_lossy(&bytes);
            Said::Text(text.strip_suffix('\n').unwrap_or(&text).to_owned())
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

    #[test]
    fn a_check_is_silent_or_finds_an_object_which_may_be_empty() {
        let check = |stdout: &str| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("stdout"), stdout).unwrap();
            of(Process::Check, &Exit { code: Some(0), ..Exit::default() }, dir.path()).result.map(Value::Object)
        };
        assert_eq!(check("\n").unwrap(), serde_json::json!({"stdout": ""}));
        assert_eq!(check("{}\n").unwrap(), serde_json::json!({}));
        assert_eq!(check("soon").unwrap_err().message, "it printed no JSON object, but: soon");
    }
}
