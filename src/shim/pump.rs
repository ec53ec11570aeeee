//! From the file `stdin` to the child's stdin: every whole line, once.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;

const CHUNK: usize = 16 << 10;

/// The pump of one workload.
pub(super) struct Pump {
    file: File,
    eof: PathBuf,
    pipe: ChildStdin,
    /// Up to here the child has been given.
    given: u64,
    /// Up to here are whole lines. What is behind may be half a line, which a controller that was killed left and its
    /// successor takes back.
    whole: u64,
    full: bool,
}

impl Pump {
    pub(super) fn new(dir: &Path, pipe: ChildStdin) -> io::Result<Pump> {
        let path = dir.join("stdin");
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        // A child that does not read must not hold up the shim.
        let flags = OFlag::from_bits_truncate(fcntl(&pipe, FcntlArg::F_GETFL)?);
        fcntl(&pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Pump { file, eof: dir.join("stdin.eof"), pipe, given: 0, whole: 0, full: false })
    }

    /// Whether the child has to read first.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// What the controller appends to.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(super) fn pipe(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Passes on what is there; false: that was all, or nobody reads any more.
    pub(super) fn pass_on(&mut self) -> bool {
        // Asked first: what was appended before the end was announced is then seen below.
        let announced = self.eof.exists();
        match self.try_pass_on() {
            Ok(()) => !announced || self.full,
            Err(_) => false,
        }
    }

    fn try_pass_on(&mut self) -> io::Result<()> {
        self.find_whole_lines()?;
        let mut chunk = [0; CHUNK];
        self.full = false;
        while self.given < self.whole {
            let rest = usize::try_from(self.whole - self.given).unwrap_or(CHUNK).min(CHUNK);
            let Some(part) = chunk.get_mut(..rest) else { break };
            self.file.seek(SeekFrom::Start(self.given))?;
            self.file.read_exact(part)?;
            match self.pipe.write(part) {
                Ok(written) => self.given += written as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.full = true;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn find_whole_lines(&mut self) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        let mut at = self.file.seek(SeekFrom::Start(self.whole))?;
        loop {
            let length = self.file.read(&mut chunk)?;
            let Some(part) = chunk.get(..length).filter(|part| !part.is_empty()) else { return Ok(()) };
            if let Some(last) = part.iter().rposition(|byte| *byte == b'\n') {
                self.whole = at + last as u64 + 1;
            }
            at += length as u64;
        }
    }
}
