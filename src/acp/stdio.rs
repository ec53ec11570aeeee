//! The two files that a conversation is made of.

use crate::os::{self, open_plain};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A longer line is not kept: it is no message that we could want.
pub(crate) const LONGEST_LINE_BYTES: usize = 16 * 1024 * 1024;

/// What we say. Only whole lines are ever pumped to the agent, so a torn tail was never heard and may be cut.
pub(crate) struct Stdin {
    file: File,
    dir: PathBuf,
}

impl Stdin {
    /// Opens `stdin` in the run directory for as long as this lives, and gives `line` every line of it. `None`: another driver
    /// has it. The lock is what makes "asked once" hold while a driver that was dropped is still in its last write.
    pub(crate) fn open(dir: &Path, mut line: impl FnMut(&[u8])) -> io::Result<Option<Stdin>> {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(dir.join("stdin"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut whole = 0;
        let mut reader = BufReader::new(&file);
        let mut buffer = Vec::new();
        while reader.read_until(b'\n', &mut buffer)? > 0 {
            if buffer.pop_if(|last| *last == b'\n').is_none() {
                file.set_len(whole)?;
                break;
            }
            whole += buffer.len() as u64 + 1;
            line(&buffer);
            buffer.clear();
        }
        Ok(Some(Stdin { file, dir: dir.to_owned() }))
    }

    /// Says one line. On an error nothing was said.
    pub(crate) fn append(&mut self, line: &str) -> io::Result<()> {
        let before = self.file.metadata()?.len();
        let written = self.file.write_all(format!("{line}\n").as_bytes());
        if written.is_err() {
            self.file.set_len(before)?;
        }
        os::ring(&self.dir);
        written
    }
}

/// What the agent says.
pub(crate) struct Stdout {
    path: PathBuf,
    file: Option<File>,
    offset: u64,
    /// Where the line begins that is being read.
    line_at: u64,
    partial: Vec<u8>,
    too_long: bool,
}

/// What a read gave.
pub(crate) enum Heard<'a> {
    /// A line, without its newline, and where it begins.
    Line(u64, &'a [u8]),
    /// A line that begins there and is not kept. It may have no end.
    TooLong(u64),
}

impl Stdout {
    /// From the start; the file may not be there yet.
    pub(crate) fn new(dir: &Path) -> Stdout {
        let (file, partial) = (None, Vec::new());
        Stdout { path: dir.join("stdout"), file, offset: 0, line_at: 0, partial, too_long: false }
    }

    /// How far it was read.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Where the line begins that is being read.
    pub(crate) fn line_at(&self) -> u64 {
        self.line_at
    }

    /// Reads nothing more of what is there.
    pub(crate) fn skip(&mut self) {
        self.offset = std::fs::metadata(&self.path).map_or(self.offset, |metadata| metadata.len());
        self.line_at = self.offset;
        self.partial = Vec::new();
    }

    /// Reads on, one block; false: there is no more now.
    pub(crate) fn read(&mut self, mut hear: impl FnMut(Heard<'_>)) -> io::Result<bool> {
        let file = match &mut self.file {
            Some(file) => file,
            None => match open_plain(&self.path) {
                Ok(file) => self.file.insert(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            },
        };
        let mut block = vec![0; 256 * 1024];
        file.seek(SeekFrom::Start(self.offset))?;
        let length = file.read(&mut block)?;
        self.offset += length as u64;
        let mut rest = &block[..length];
        let mut after_line = self.offset - length as u64;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            after_line += end as u64 + 1;
            if std::mem::take(&mut self.too_long) {
                // It was told when it became too long.
            } else if self.partial.len() + line.len() > LONGEST_LINE_BYTES {
                hear(Heard::TooLong(self.line_at));
            } else if self.partial.is_empty() {
                hear(Heard::Line(self.line_at, line));
            } else {
                self.partial.extend_from_slice(line);
                hear(Heard::Line(self.line_at, &self.partial));
            }
            self.partial.clear();
            self.line_at = after_line;
        }
        if self.too_long || self.partial.len() + rest.len() > LONGEST_LINE_BYTES {
            if !std::mem::replace(&mut self.too_long, true) {
                hear(Heard::TooLong(self.line_at));
            }
            self.partial = Vec::new();
        } else {
            self.partial.extend_from_slice(rest);
        }
        Ok(length > 0)
    }
}
