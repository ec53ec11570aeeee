//! Files that an agent reads and writes through us: confined to the directories of its session.
//!
//! Each directory is opened first, and the path is followed below that handle (`cap-std`): neither `..` nor a symbolic link
//! leads out, and nothing changes between the check and the use.

use crate::acp::message::error;
use agent_client_protocol_schema::v1::{Error, ErrorCode};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

/// No file that is read is larger.
const LARGEST_FILE_BYTES: u64 = 32 * 1024 * 1024;

/// Reads a text file, or `limit` lines of it from line `line` (from 1) on.
pub(crate) fn read(roots: &[PathBuf], path: &Path, line: Option<u32>, limit: Option<u32>) -> Result<String, Error> {
    let (dir, below) = place(roots, path)?;
    let file = open(&dir, &below, OpenOptions::new().read(true)).map_err(|error| failed("read", path, &error))?;
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed("read", path, &error))?;
    if bytes.len() as u64 > LARGEST_FILE_BYTES {
        return Err(invalid(format!("{} is larger than {LARGEST_FILE_BYTES} bytes", path.display())));
    }
    let text = String::from_utf8(bytes).map_err(|_| invalid(format!("{} is not UTF-8 text", path.display())))?;
    if line.is_none() && limit.is_none() {
        return Ok(text);
    }
    let skipped = line.unwrap_or(1).saturating_sub(1) as usize;
    let taken = limit.map_or(usize::MAX, |limit| limit as usize);
    Ok(text.split_inclusive('\n').skip(skipped).take(taken).collect())
}

/// Writes a text file: what was there is replaced, and directories on the way are made.
pub(crate) fn write(roots: &[PathBuf], path: &Path, content: &str) -> Result<(), Error> {
    let (dir, below) = place(roots, path)?;
    let write = || -> io::Result<()> {
        if let Some(parent) = below.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            dir.create_dir_all(parent)?;
        }
        let mut file = open(&dir, &below, OpenOptions::new().write(true).create(true).truncate(true))?;
        file.write_all(content.as_bytes())
    };
    write().map_err(|error| failed("write", path, &error))
}

/// A FIFO or a device would block or worse, so only files, and an open that waits for nobody.
fn open(dir: &Dir, below: &Path, options: &mut OpenOptions) -> io::Result<cap_std::fs::File> {
    match dir.metadata(below) {
        Ok(metadata) if !metadata.is_file() => return Err(io::Error::other("it is not a file")),
        _ => {}
    }
    let file = dir.open_with(below, options.custom_flags(nix::libc::O_NONBLOCK))?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a file")) }
}

/// The root that holds `path`, opened, and the way below it.
fn place(roots: &[PathBuf], path: &Path) -> Result<(Dir, PathBuf), Error> {
    if !path.is_absolute() {
        return Err(invalid(format!("the path {} is not absolute", path.display())));
    }
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(invalid(format!("the path {} contains `..`", path.display())));
    }
    for root in roots {
        // An agent may name its directory by its real path.
        for spelling in [Some(root.clone()), root.canonicalize().ok()].into_iter().flatten() {
            let Ok(below) = path.strip_prefix(&spelling) else { continue };
            let (base, below) = match (below.as_os_str().is_empty(), spelling.parent(), spelling.file_name()) {
                (true, Some(parent), Some(name)) => (parent.to_owned(), PathBuf::from(name)),
                _ => (spelling, below.to_owned()),
            };
            let dir =
                Dir::open_ambient_dir(&base, ambient_authority()).map_err(|error| failed("open", &base, &error))?;
            return Ok((dir, below));
        }
    }
    Err(outside(path, roots))
}

/// A working directory, if it lies within the roots.
pub(crate) fn directory(roots: &[PathBuf], path: &Path) -> Result<(), Error> {
    if !path.is_absolute() {
        return Err(invalid(format!("the directory {} is not absolute", path.display())));
    }
    let real = path.canonicalize().map_err(|error| failed("enter", path, &error))?;
    if !real.is_dir() {
        return Err(invalid(format!("{} is not a directory", path.display())));
    }
    let within = roots.iter().filter_map(|root| root.canonicalize().ok()).any(|root| real.starts_with(root));
    if within { Ok(()) } else { Err(outside(path, roots)) }
}

fn outside(path: &Path, roots: &[PathBuf]) -> Error {
    let roots: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
    invalid(format!("{} lies outside the directories of this session: {}", path.display(), roots.join(", ")))
}

fn invalid(message: String) -> Error {
    error(ErrorCode::InvalidParams, message)
}

fn failed(what: &str, path: &Path, cause: &io::Error) -> Error {
    let code = match cause.kind() {
        io::ErrorKind::NotFound => ErrorCode::ResourceNotFound,
        io::ErrorKind::PermissionDenied => ErrorCode::InvalidParams,
        _ => ErrorCode::InternalError,
    };
    error(code, format!("failed to {what} {}: {cause}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Place {
        _temp: tempfile::TempDir,
        cwd: PathBuf,
        allowed: PathBuf,
        secret: PathBuf,
    }

    impl Place {
        fn new() -> Place {
            let temp = tempfile::tempdir().unwrap();
            let root = temp.path().canonicalize().unwrap();
            let [cwd, allowed, secret] = ["cwd", "allowed", "secret"].map(|name| root.join(name));
            for dir in [&cwd, &allowed, &secret] {
                std::fs::create_dir(dir).unwrap();
                std::fs::write(dir.join("a.txt"), "one\ntwo\nthree\n").unwrap();
            }
            Place { _temp: temp, cwd, allowed, secret }
        }

        fn roots(&self) -> [PathBuf; 2] {
            [self.cwd.clone(), self.allowed.clone()]
        }
    }

    #[test]
    fn a_window_of_lines_is_read() {
        let place = Place::new();
        let cases = [
            (None, None, "one\ntwo\nthree\n"),
            (Some(2), None, "two\nthree\n"),
            (Some(2), Some(1), "two\n"),
            (None, Some(2), "one\ntwo\n"),
            (Some(0), Some(1), "one\n"),
            (Some(9), Some(1), ""),
            (Some(1), Some(0), ""),
        ];
        for (line, limit, expected) in cases {
            assert_eq!(
                read(&place.roots(), &place.cwd.join("a.txt"), line, limit).unwrap(),
                expected,
                "{line:?} {limit:?}"
            );
        }
    }

    #[test]
    fn files_in_the_roots_are_written_and_read() {
        let place = Place::new();
        for path in [place.cwd.join("new/deep/b.txt"), place.allowed.join("a.txt")] {
            write(&place.roots(), &path, "x").unwrap();
            assert_eq!(read(&place.roots(), &path, None, None).unwrap(), "x");
        }
        let single = [place.secret.join("a.txt")];
        assert_eq!(read(&single, &single[0], Some(1), Some(1)).unwrap(), "one\n", "an allowed path may be a file");
        assert!(read(&single, &place.secret.join("b.txt"), None, None).is_err());
    }

    #[test]
    fn nothing_leads_out_of_the_roots() {
        let place = Place::new();
        symlink(&place.secret, place.cwd.join("out")).unwrap();
        symlink(place.secret.join("a.txt"), place.cwd.join("out.txt")).unwrap();
        symlink("../secret/a.txt", place.cwd.join("relative.txt")).unwrap();
        symlink(place.secret.join("new.txt"), place.cwd.join("dangling.txt")).unwrap();
        let paths = [
            place.secret.join("a.txt"),
            place.cwd.join("../secret/a.txt"),
            place.cwd.join("out/a.txt"),
            place.cwd.join("out.txt"),
            place.cwd.join("relative.txt"),
            place.cwd.join("dangling.txt"),
            PathBuf::from("a.txt"),
            PathBuf::from("/etc/passwd"),
            place.cwd.with_file_name("cwd-beside").join("a.txt"),
            place.cwd.clone(),
        ];
        for path in paths {
            assert!(read(&place.roots(), &path, None, None).is_err(), "read {}", path.display());
            assert!(write(&place.roots(), &path, "x").is_err(), "write {}", path.display());
        }
        assert_eq!(std::fs::read_to_string(place.secret.join("a.txt")).unwrap(), "one\ntwo\nthree\n");
        assert!(!place.secret.join("new.txt").exists());
    }

    #[test]
    fn a_fifo_is_refused_and_does_not_block() {
        let place = Place::new();
        let fifo = place.cwd.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read(&place.roots(), &fifo, None, None).is_err());
        assert!(write(&place.roots(), &fifo, "x").is_err());
    }

    #[test]
    fn a_working_directory_is_confined_too() {
        let place = Place::new();
        symlink(&place.secret, place.cwd.join("out")).unwrap();
        assert!(directory(&place.roots(), &place.allowed).is_ok());
        for path in [place.cwd.join("out"), place.secret.clone(), place.cwd.join("missing"), place.cwd.join("a.txt")] {
            assert!(directory(&place.roots(), &path).is_err(), "{}", path.display());
        }
    }
}
