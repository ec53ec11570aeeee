//! The files of a shim, as far as a look needs them. The shim writes them (see `shim::files`); they are versioned, and a
//! version that is not understood is *unreadable*, never missing.

use crate::model::{BootId, Exit, ProcId, ShimSeen, WorkloadUid};
use crate::os::{is_plain_name, read_plain};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::fs;
use std::io;
use std::path::Path;

/// The format that is understood.
const FORMAT: u32 = 1;

/// Neither file is larger: who, when, and how, in a few words.
const LARGEST_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ShimFile {
    boot_id: BootId,
    shim: ProcId,
    #[serde(default)]
    child: Option<ProcId>,
}

#[derive(Deserialize)]
struct ExitFile {
    // A mapping, and not what else can be taken for an `Exit`, such as an empty list.
    exit: Map<String, Value>,
}

/// What was read of one directory.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) begun: bool,
    pub(super) shim: Option<ShimSeen>,
    pub(super) exit: Option<Exit>,
    /// The first file that is there and not understood.
    pub(super) unreadable: Option<String>,
}

impl Files {
    /// # Errors
    /// Nothing can be said about the file, not even that it makes no sense.
    pub(super) fn read_shim(&mut self, directory: &Path) -> io::Result<()> {
        let read: Option<ShimFile> = self.read(&directory.join("shim.json"))?;
        self.begun = read.is_some() || directory.join("begun").exists();
        self.shim = read.map(|file| ShimSeen { shim: file.shim, child: file.child, boot_id: file.boot_id });
        Ok(())
    }

    /// # Errors
    /// As [`Files::read_shim`].
    pub(super) fn read_exit(&mut self, directory: &Path) -> io::Result<()> {
        let path = directory.join("exit.json");
        let Some(file) = self.read::<ExitFile>(&path)? else { return Ok(()) };
        self.exit = match serde_json::from_value::<Exit>(Value::Object(file.exit)) {
            Ok(exit) if exit.code.is_none() && exit.signal.is_none() && exit.message.is_none() => {
                self.refuse(&path, "it does not say how the main process ended")
            }
            Ok(exit) => Some(exit),
            Err(error) => self.refuse(&path, error),
        };
        Ok(())
    }

    fn read<T: DeserializeOwned>(&mut self, path: &Path) -> io::Result<Option<T>> {
        let bytes = match read_plain(path, LARGEST_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) if is_the_files_own(&error) => return Ok(self.refuse(path, error)),
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        };
        Ok(match serde_json::from_slice::<Version>(&bytes) {
            Ok(Version { version: FORMAT }) => {
                serde_json::from_slice(&bytes).map_or_else(|error| self.refuse(path, error), Some)
            }
            Ok(Version { version }) => {
                self.refuse(path, format!("it has format {version}, and this tenure understands {FORMAT}"))
            }
            Err(error) => self.refuse(path, error),
        })
    }

    fn refuse<T>(&mut self, path: &Path, why: impl std::fmt::Display) -> Option<T> {
        self.unreadable.get_or_insert_with(|| format!("{} cannot be understood: {why}", path.display()));
        None
    }
}

/// Whether an error says something about the file, and not about a system that lacks memory or descriptors just now: that
/// file will not be read later either.
fn is_the_files_own(error: &io::Error) -> bool {
    // A symbolic link that leads to itself, or a socket or device that nobody serves.
    let leads_nowhere =
        [nix::libc::ELOOP, nix::libc::ENXIO, nix::libc::ENODEV].map(Some).contains(&error.raw_os_error());
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::PermissionDenied) || leads_nowhere
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The workloads that have a run directory. A state directory that has none yet has no workloads.
pub(super) fn run_dirs(directory: &Path) -> io::Result<Vec<WorkloadUid>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(name) = name.to_str().filter(|name| is_plain_name(name))
            && let Some(kind) = there(entry.file_type())?
            && kind.is_dir()
        {
            found.push(WorkloadUid::from(name));
        }
    }
    Ok(found)
}

/// `None`: it went away while the directory was read.
fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
