//! The files of a shim, as far as a look needs them. The shim writes them (see `shim::files`); they are versioned, and a
//! version that is not understood is *unreadable*, never missing.

use crate::model::{BootId, Exit, ProcId, ShimSeen, WorkloadUid};
use crate::os::is_plain_name;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io;
use std::path::Path;

/// The format that is understood.
const FORMAT: u32 = 1;

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
    exit: Exit,
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
    pub(super) fn read_shim(&mut self, directory: &Path) {
        let read: Option<ShimFile> = self.read(&directory.join("shim.json"));
        self.begun = read.is_some() || directory.join("begun").exists();
        self.shim = read.map(|file| ShimSeen { shim: file.shim, child: file.child, boot_id: file.boot_id });
    }

    pub(super) fn read_exit(&mut self, directory: &Path) {
        let read: Option<ExitFile> = self.read(&directory.join("exit.json"));
        self.exit = read.map(|file| file.exit);
    }

    fn read<T: DeserializeOwned>(&mut self, path: &Path) -> Option<T> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if is_absent(&error) => return None,
            Err(error) => return self.refuse(path, error),
        };
        match serde_json::from_slice::<Version>(&bytes) {
            Ok(Version { version: FORMAT }) => {}
            Ok(Version { version }) => {
                return self.refuse(path, format!("format {version}, and this tenure understands {FORMAT}"));
            }
            Err(error) => return self.refuse(path, error),
        }
        serde_json::from_slice(&bytes).map_or_else(|error| self.refuse(path, error), Some)
    }

    fn refuse<T>(&mut self, path: &Path, why: impl std::fmt::Display) -> Option<T> {
        self.unreadable.get_or_insert_with(|| format!("{}: {why}", path.display()));
        None
    }
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
