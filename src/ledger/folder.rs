//! A directory with a file for each entry, read again only where something changed. A half-written, foreign, or odd file is
//! an entry that could not be understood, never one that is missing.

use super::trust::{Trust, in_words};
use crate::os::open_plain_itself;
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// More files than these are not read.
const MOST_FILES: usize = 100_000;

/// A larger file is not read.
pub(super) const LARGEST_BYTES: u64 = 64 << 20;

/// A file that changed within this time is read at each look: a second change may look like the first.
const FRESH: Duration = Duration::from_secs(2);

/// How often a directory is listed again that changed meanwhile.
const ATTEMPTS: u32 = 20;

/// What is known of each file.
#[derive(Debug)]
pub(super) struct Folder<T> {
    files: BTreeMap<String, Kept<T>>,
}

impl<T> Default for Folder<T> {
    fn default() -> Self {
        Folder { files: BTreeMap::new() }
    }
}

#[derive(Debug)]
struct Kept<T> {
    /// None: it is to be read again.
    stand: Option<Stand>,
    entry: Result<T, String>,
}

/// By what a file is the same as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stand {
    file: (u64, u64),
    size: u64,
    content: (i64, i64),
    anything: (i64, i64),
}

impl Stand {
    fn of(meta: &Metadata) -> Stand {
        Stand {
            file: (meta.dev(), meta.ino()),
            size: meta.len(),
            content: (meta.mtime(), meta.mtime_nsec()),
            anything: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    fn is_fresh(&self) -> bool {
        let at = Duration::from_secs(u64::try_from(self.anything.0).unwrap_or(0));
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + at).is_ok_and(|age| age < FRESH)
            || self.anything.0 < 0
    }
}

/// What may be relied on, and when to stop.
pub(super) struct Rules {
    pub(super) trust: Trust,
    pub(super) deadline: Instant,
}

impl<T> Folder<T> {
    /// Every entry by its file's name, or what is wrong with it.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, Result<&T, &str>)> {
        self.files.iter().map(|(name, kept)| (name.as_str(), kept.entry.as_ref().map_err(String::as_str)))
    }

    /// One of them.
    pub(super) fn get(&self, name: &str) -> Option<Result<&T, &str>> {
        self.files.get(name).map(|kept| kept.entry.as_ref().map_err(String::as_str))
    }

    /// Looks at the directory. Files whose name is not `wanted` are nobody's.
    ///
    /// # Errors
    /// It could not be looked at as a whole; in words.
    pub(super) fn look(
        &mut self,
        directory: &Path,
        rules: &Rules,
        wanted: impl Fn(&str) -> bool,
        parse: impl Fn(&str, &[u8]) -> Result<T, String>,
    ) -> Result<(), String> {
        let (names, owner) = self.list(directory, rules, wanted)?;
        let mut before = std::mem::take(&mut self.files);
        let total = names.len();
        for name in names {
            if Instant::now() > rules.deadline {
                let what = format!(
                    "{} of {total} files were read in time; the next look goes on from there",
                    self.files.len()
                );
                self.files.append(&mut before);
                return Err(what);
            }
            let path = directory.join(&name);
            let meta = match fs::symlink_metadata(&path) {
                Ok(meta) => meta,
                // Removed since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(in_words(&path, &error)),
            };
            if !meta.is_file() {
                self.files.insert(name, Kept { stand: None, entry: Err("it is not a file".into()) });
                continue;
            }
            rules.trust.refuse(&path, &meta)?;
            let kept = match before.remove(&name) {
                Some(kept) if kept.stand == Some(Stand::of(&meta)) => kept,
                _ => match read(&path, owner) {
                    Ok(Some((bytes, stand))) => {
                        let stand = (!stand.is_fresh()).then_some(stand);
                        Kept { stand, entry: parse(&name, &bytes) }
                    }
                    Ok(None) => continue,
                    Err(why) => Kept { stand: None, entry: Err(why) },
                },
            };
            self.files.insert(name, kept);
        }
        Ok(())
    }

    /// The names of the files, and the owner of the directory. While it changes a listing may leave out a file that stays.
    fn list(
        &self,
        directory: &Path,
        rules: &Rules,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(Vec<String>, u32), String> {
        let meta = || fs::symlink_metadata(directory).map_err(|error| in_words(directory, &error));
        for _ in 0..ATTEMPTS {
            let before = meta()?;
            if !before.is_dir() {
                return Err(format!("{} is not a directory", directory.display()));
            }
            rules.trust.refuse(directory, &before)?;
            let mut names = Vec::new();
            for entry in fs::read_dir(directory).map_err(|error| in_words(directory, &error))? {
                let entry = entry.map_err(|error| in_words(directory, &error))?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if !wanted(&name) {
                    continue;
                }
                if names.len() == MOST_FILES {
                    return Err(format!("{} holds more than {MOST_FILES} files", directory.display()));
                }
                names.push(name);
            }
            if Stand::of(&before) == Stand::of(&meta()?) {
                names.sort_unstable();
                return Ok((names, before.uid()));
            }
        }
        Err(format!("{} changes faster than it can be read", directory.display()))
    }
}

/// The content of a file, and by what it will be known. `None`: it is gone.
fn read(path: &Path, owner: u32) -> Result<Option<(Vec<u8>, Stand)>, String> {
    let failed = |error: io::Error| error.to_string();
    let mut file = match open_plain_itself(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let before = file.metadata().map_err(failed)?;
    if before.uid() != owner {
        return Err(format!("it belongs to user {}, its directory to user {owner}", before.uid()));
    }
    let bytes = read_most(&mut file).map_err(failed)?;
    let stand = Stand::of(&before);
    if Stand::of(&file.metadata().map_err(failed)?) != stand {
        return Err("it changes while it is read".into());
    }
    Ok(Some((bytes, stand)))
}

fn read_most(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LARGEST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_BYTES {
        return Err(io::Error::other(format!("it is larger than {LARGEST_BYTES} bytes")));
    }
    Ok(bytes)
}
