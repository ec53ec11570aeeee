//! A directory of manifests, listed and read as a whole.
//!
//! It is held open meanwhile: when it is moved away, or another one is put in its place, this is still the one that was listed, and
//! a file that is listed and can not be opened is one that was removed.

use super::outside::is_config;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The largest manifest that is read, in bytes.
const FILE_MAX: u64 = 4 << 20;

/// One file of a listing.
pub(super) struct FileSeen {
    pub(super) path: PathBuf,
    pub(super) text: Vec<u8>,
    pub(super) hash: String,
}

/// One whole listing of a directory.
pub(super) struct Listing {
    /// Device and inode of the directory.
    pub(super) identity: (u64, u64),
    /// By path below the directory.
    pub(super) files: BTreeMap<String, FileSeen>,
}

/// Every manifest below a directory: its own, and the `FLOW.yaml` of each directory in it.
///
/// # Errors
/// The directory, or a file in it, is there and can not be read.
pub(super) fn list(dir: &Path) -> io::Result<Listing> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = File::from(openat(CWD, dir, flags, Mode::empty())?);
    let meta = handle.metadata()?;
    let mut files = BTreeMap::new();
    for entry in Dir::read_from(&handle)? {
        let entry = entry?;
        let name = Path::new(std::ffi::OsStr::from_bytes(entry.file_name().to_bytes()));
        let text = name.to_string_lossy().into_owned();
        if is_hidden(&text) {
            continue;
        }
        let (key, below) = if is_directory(&handle, name)? {
            (format!("{text}/FLOW.yaml"), name.join("FLOW.yaml"))
        } else if is_manifest(&text) && !is_config(&text) {
            (text, name.to_owned())
        } else {
            continue;
        };
        let path = dir.join(&below);
        match read(&handle, &below) {
            Ok(text) => {
                let hash = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
                files.insert(key, FileSeen { path, text, hash });
            }
            // Gone between the listing and the reading, or a directory without a flow.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
    }
    Ok(Listing { identity: (meta.dev(), meta.ino()), files })
}

fn is_directory(dir: &File, name: &Path) -> io::Result<bool> {
    match statat(dir, name, AtFlags::empty()) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode).is_dir()),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn read(dir: impl AsFd, path: &Path) -> io::Result<Vec<u8>> {
    // A FIFO of such a name would let us wait for ever.
    let fd = openat(dir, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let file = File::from(fd);
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut text = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        let length = meta.len().max(FILE_MAX + 1);
        let what = format!("{length} bytes, and the most that is read is {FILE_MAX}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(text)
}

fn is_manifest(name: &str) -> bool {
    [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end))
}

/// What editors and mounts leave beside the files themselves.
fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name.ends_with('~') || name.ends_with(".swp") || name == "4913"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_directory_that_is_moved_away_while_it_is_read_is_read_whole_or_not_at_all() {
        let scratch = tempfile::tempdir().unwrap();
        let (dir, away) = (scratch.path().join("manifests"), scratch.path().join("away"));
        fs::create_dir(&dir).unwrap();
        (0..100).for_each(|name| fs::write(dir.join(format!("{name}.yaml")), "a: 1\n").unwrap());
        let (mut whole, mut not, mut half) = (0, 0, None);
        let over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    fs::rename(&dir, &away).unwrap();
                    fs::rename(&away, &dir).unwrap();
                }
            });
            while half.is_none() && (whole < 100 || not == 0) {
                match list(&dir) {
                    Ok(listing) if listing.files.len() == 100 => whole += 1,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => not += 1,
                    other => half = Some(other.map(|listing| listing.files.len())),
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        assert!(half.is_none(), "{half:?} of 100 files");
    }

    #[test]
    fn what_is_no_regular_file_is_not_waited_for() {
        let scratch = tempfile::tempdir().unwrap();
        let fifo = scratch.path().join("fifo.yaml");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = list(scratch.path()).err().unwrap().to_string();
        assert!(error.ends_with("fifo.yaml: it is not a regular file"), "{error}");
        fs::remove_file(fifo).unwrap();
        std::os::unix::fs::symlink("nowhere", scratch.path().join("dangling.yaml")).unwrap();
        fs::create_dir(scratch.path().join("empty")).unwrap();
        assert!(list(scratch.path()).unwrap().files.is_empty());
    }
}
