//! Files that are read back, and that anything may stand in for by now: what a workload may write, it may replace by a FIFO,
//! by a directory, or by far too much.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a file for reading, and nothing but a file: whoever opens a FIFO waits for its writer.
///
/// # Errors
/// The system's, or of the kind `InvalidData`: something else is in its place.
pub fn open_plain(path: &Path) -> io::Result<File> {
    open_with(path, 0)
}

/// The same, and nothing that a symbolic link stands for: whoever may make one chooses what is read.
///
/// # Errors
/// As [`open_plain`].
pub fn open_plain_itself(path: &Path) -> io::Result<File> {
    open_with(path, nix::libc::O_NOFOLLOW)
}

fn open_with(path: &Path, flags: i32) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK | flags).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a file"))
    }
}

/// Reads a file of at most `most_bytes`.
///
/// # Errors
/// As [`open_plain`]; also of the kind `InvalidData`: it is larger.
pub fn read_plain(path: &Path, most_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_plain(path)?.take(most_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most_bytes {
        let words = format!("it is larger than {most_bytes} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, words));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_a_file_is_read_and_only_if_it_is_small() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        fs::write(at("file"), "four").unwrap();
        fs::create_dir(at("directory")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("zeros")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert_eq!(read_plain(&at("file"), 4).unwrap(), b"four");
        assert_eq!(read_plain(&at("file"), 3).unwrap_err().to_string(), "it is larger than 3 bytes");
        for name in ["directory", "fifo", "zeros"] {
            assert_eq!(read_plain(&at(name), 4).unwrap_err().kind(), io::ErrorKind::InvalidData, "{name}");
        }
        assert!(read_plain(&at("socket"), 4).is_err());
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        assert_eq!(read_plain(&at("link"), 4).unwrap(), b"four");
        assert!(open_plain_itself(&at("link")).is_err());
        assert!(open_plain_itself(&at("file")).is_ok());
        assert_eq!(read_plain(&at("nothing"), 4).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
