//! The files that a shim and a controller share. Each carries a format version: a controller understands its own and the
//! one before, so that an upgrade keeps what runs. Each is written beside its place and moved there: who sees it sees all
//! of it.

use crate::model::{BootId, Exit, InstanceId, ProcId, Time, WorkloadUid};
use crate::os;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The format that this program writes.
pub const FORMAT: u32 = 1;

/// The files of a run directory that mean something only while the workload lives; `spec.json` holds secrets.
const PASSING: [&str; 6] = ["spec.json", "shim.json", "stdin.eof", "shim.lock", "begun", "bell"];

/// No shared file is larger: arguments and environment have to fit into what the system takes, a few megabytes.
const LARGEST_BYTES: u64 = 16 << 20;

/// Why a shared file cannot be had.
#[derive(Debug, Error)]
pub enum FileError {
    /// It cannot be read or written.
    #[error("failed to {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{path} cannot be understood: {source}")]
    Form {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Another version of this program wrote it.
    #[error("{path} has format {found}, and this program knows {FORMAT}: use the version that wrote it")]
    Version {
        /// Which.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// `spec.json`: what to run. Written by the controller; it may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpecFile {
    /// The format.
    pub version: u32,
    /// Whose workload it is.
    pub instance: InstanceId,
    /// Which one.
    pub uid: WorkloadUid,
    /// The argument vector.
    pub command: Vec<String>,
    /// What is set in the environment, over the shim's own.
    pub env: BTreeMap<String, String>,
    /// The working directory.
    pub cwd: PathBuf,
    /// Whether it gets what is appended to `stdin`; else it gets nothing.
    pub stdin: bool,
    /// The cgroup to be born in.
    pub cgroup: Option<PathBuf>,
    /// The lock that a living controller holds.
    pub lock_file: PathBuf,
    /// How long that may be free, in milliseconds; 0: for ever.
    pub lease_ms: u64,
    /// Between SIGTERM and SIGKILL, in milliseconds.
    pub grace_ms: u64,
    /// Where the run directory goes at the clean-up.
    pub log_dir: PathBuf,
    /// Command lines that are never touched, as the policy had them when the workload started.
    #[serde(default)]
    pub protect: Vec<String>,
}

/// `shim.json`: who the shim and its child are. Written by the shim once the child has started, or could not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShimFile {
    /// The format.
    pub version: u32,
    /// The boot in which the rest means anything.
    pub boot_id: BootId,
    /// The shim.
    pub shim: ProcId,
    /// Its child; none: it could not be started.
    pub child: Option<ProcId>,
    /// When.
    pub started_at: Time,
}

/// `exit.json`: how the main process ended. Written by the shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitFile {
    /// The format.
    pub version: u32,
    /// How it ended.
    pub exit: Exit,
}

macro_rules! file {
    ($name:literal, $type:ty, $read:ident, $write:ident) => {
        #[doc = concat!("Reads `", $name, "`; none: it is not there.")]
        ///
        /// # Errors
        /// It is there, and cannot be read or understood.
        pub fn $read(dir: &Path) -> Result<Option<$type>, FileError> {
            read(&dir.join($name))
        }

        #[doc = concat!("Writes `", $name, "`.")]
        ///
        /// # Errors
        /// The disk's.
        pub fn $write(dir: &Path, file: &$type) -> Result<(), FileError> {
            write(&dir.join($name), file)
        }
    };
}

file!("spec.json", SpecFile, read_spec, write_spec);
file!("shim.json", ShimFile, read_shim, write_shim);
file!("exit.json", ExitFile, read_exit, write_exit);

#[derive(Deserialize)]
struct Header {
    version: u32,
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    let bytes = match os::read_plain(path, LARGEST_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(FileError::Io { doing: "read", path: path.to_owned(), source }),
    };
    let form = |source| FileError::Form { path: path.to_owned(), source };
    // The version first: another format may have other fields.
    let Header { version } = serde_json::from_slice(&bytes).map_err(form)?;
    if version != FORMAT {
        return Err(FileError::Version { path: path.to_owned(), found: version });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(form)
}

/// Removes what means something only while the workload lives, whatever is in its place by now.
///
/// # Errors
/// The disk's, with the path.
pub fn remove_passing(dir: &Path) -> Result<(), FileError> {
    for name in PASSING {
        let path = dir.join(name);
        match remove_directory(&path).and_then(|()| fs::remove_file(&path)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(source) => return Err(FileError::Io { doing: "remove", path, source }),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Removes what is no file of ours, if it is a directory: neither a removal nor a rename gets past that.
fn remove_directory(path: &Path) -> io::Result<()> {
    let is_directory = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    if is_directory { fs::remove_dir_all(path) } else { Ok(()) }
}

fn write<T: Serialize>(path: &Path, file: &T) -> Result<(), FileError> {
    let beside = path.with_extension("json.tmp");
    let io = |source| FileError::Io { doing: "write", path: path.to_owned(), source };
    let text = serde_json::to_vec(file).map_err(|source| FileError::Form { path: path.to_owned(), source })?;
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside).map_err(io)?;
    out.write_all(&text).and_then(|()| remove_directory(path)).and_then(|()| fs::rename(&beside, path)).map_err(io)
}
