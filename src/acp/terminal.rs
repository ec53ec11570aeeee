//! What a terminal said, and how it ended: read from the files of the workload that it is.

use crate::model::Exit;
use crate::os::{open_plain, read_plain};
use agent_client_protocol_schema::v1::{TerminalExitStatus, TerminalOutputResponse};
use serde::Deserialize;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// The limit of output for an agent that names none, and for one that names a larger.
const MOST_OUTPUT_BYTES: u64 = 4 * 1024 * 1024;

/// No report of an end is larger.
const LARGEST_EXIT_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
struct ExitFile {
    #[serde(default)]
    exit: Exit,
}

/// How it ended, if it did.
pub(crate) fn exit(dir: &Path) -> Option<Exit> {
    // The file is renamed into its place: it is there as a whole, or not there.
    let bytes = match read_plain(&dir.join("exit.json"), LARGEST_EXIT_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Some(Exit { message: Some(format!("exit.json cannot be read: {error}")), ..Exit::default() });
        }
        Err(_) => return None,
    };
    match serde_json::from_slice::<ExitFile>(&bytes) {
        Ok(file) => Some(file.exit),
        Err(error) => Some(Exit { message: Some(format!("exit.json does not parse: {error}")), ..Exit::default() }),
    }
}

/// The same, for the agent.
pub(crate) fn status(exit: &Exit) -> TerminalExitStatus {
    let code = exit.code.and_then(|code| u32::try_from(code).ok());
    TerminalExitStatus::new().exit_code(code).signal(exit.signal.clone())
}

/// What it said so far: the last `limit` bytes of stdout and stderr, cut between characters.
pub(crate) fn output(dir: &Path, limit: Option<u64>) -> io::Result<TerminalOutputResponse> {
    let limit = limit.unwrap_or(MOST_OUTPUT_BYTES).min(MOST_OUTPUT_BYTES);
    let exit = exit(dir);
    let note = exit.as_ref().and_then(|exit| Some(format!("{}\n", exit.message.as_ref()?))).unwrap_or_default();
    let (stderr, cut_stderr) = tail(&dir.join("stderr"), limit)?;
    let (mut bytes, cut_stdout) = tail(&dir.join("stdout"), limit - stderr.len() as u64)?;
    bytes.extend(stderr);
    let mut start = 0;
    if cut_stdout || cut_stderr {
        start = bytes.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count();
    }
    let text = String::from_utf8_lossy(&bytes[start..]).into_owned() + &note;
    Ok(TerminalOutputResponse::new(text, cut_stdout || cut_stderr).exit_status(exit.as_ref().map(status)))
}

/// The last `limit` bytes, and whether there were more. A file that is not there is empty: the workload has not started.
fn tail(path: &Path, limit: u64) -> io::Result<(Vec<u8>, bool)> {
    let mut file = match open_plain(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), false)),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let skipped = length.saturating_sub(limit);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(length - skipped).read_to_end(&mut bytes)?;
    Ok((bytes, skipped > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_from_the_beginning_between_characters() {
        let dir = tempfile::tempdir().unwrap();
        let empty = output(dir.path(), None).unwrap();
        assert_eq!((empty.output.as_str(), empty.truncated, empty.exit_status), ("", false, None));

        std::fs::write(dir.path().join("stdout"), "aé€").unwrap();
        std::fs::write(dir.path().join("stderr"), "err").unwrap();
        let cases = [
            (None, "aé€err", false),
            (Some(9), "aé€err", false),
            (Some(8), "é€err", true),
            (Some(7), "€err", true),
            (Some(5), "err", true),
            (Some(3), "err", true),
            (Some(2), "rr", true),
            (Some(0), "", true),
        ];
        for (limit, expected, truncated) in cases {
            let got = output(dir.path(), limit).unwrap();
            assert_eq!((got.output.as_str(), got.truncated), (expected, truncated), "{limit:?}");
        }
    }

    #[test]
    fn an_exit_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let cases = [
            (r#"{"version":1,"exit":{"code":3}}"#, Some(3), None, ""),
            (r#"{"version":1,"exit":{"signal":"SIGTERM"}}"#, None, Some("SIGTERM"), ""),
            (r#"{"version":1,"exit":{"message":"could not be started"}}"#, None, None, "could not be started\n"),
        ];
        for (file, code, signal, text) in cases {
            std::fs::write(dir.path().join("exit.json"), file).unwrap();
            let got = output(dir.path(), None).unwrap();
            let status = got.exit_status.unwrap();
            assert_eq!((status.exit_code, status.signal.as_deref(), got.output.as_str()), (code, signal, text));
        }
    }
}
