//! Who may say what root kills. A controller that is root reads a ledger only if nobody but root, and the user whom the
//! administrator named, could have written it, moved it, or put a link in its place.

use super::Source;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where a ledger is, and whose it is.
pub(super) struct Place {
    /// Absolute, links resolved.
    pub(super) path: PathBuf,
    /// Its owner.
    pub(super) user: u32,
    /// Who looks, and whose files they trust.
    pub(super) trust: Trust,
}

/// Whose files are trusted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trust {
    /// Who looks.
    pub(super) me: u32,
    /// Who else, by the administrator's word.
    pub(super) user: Option<u32>,
}

impl Trust {
    /// Why a file must not be relied on. For who is not root there is no reason: what they could be told to kill is their own,
    /// and the owner of the file goes with what is read.
    pub(super) fn refuse(self, path: &Path, meta: &Metadata) -> Result<(), String> {
        if self.me != 0 {
            return Ok(());
        }
        let (owner, mode) = (meta.uid(), meta.mode());
        if owner != 0 && Some(owner) != self.user {
            return Err(refused(&format!("{} belongs to user {owner}", path.display())));
        }
        // In a directory with the sticky bit, nobody moves or replaces what is not theirs.
        let is_shared = meta.is_dir() && mode & 0o1000 != 0;
        // Whoever is in root's group was put there by root.
        let others = if meta.gid() == 0 { 0o002 } else { 0o022 };
        if mode & others != 0 && !is_shared {
            return Err(refused(&format!("{} may be written by others (mode {:o})", path.display(), mode & 0o7777)));
        }
        Ok(())
    }
}

fn refused(what: &str) -> String {
    format!(
        "refused: {what}, and who can write a ledger of a root controller chooses what root kills; run as that user, or \
         name the user in the Ledger's `user`"
    )
}

/// Finds a ledger, and looks who could have written it.
pub(super) fn place(source: &Source, me: u32) -> Result<Place, String> {
    let trust = Trust { me, user: source.user };
    let path = fs::canonicalize(&source.path).map_err(|error| in_words(&source.path, &error))?;
    if me == 0 && path != source.path {
        let what = format!("{} leads over a link to {}", source.path.display(), path.display());
        return Err(refused(&what));
    }
    let mut user = me;
    // From `/` down: who can change a directory can change all that is below it.
    let mut chain: Vec<&Path> = path.ancestors().collect();
    chain.reverse();
    for part in chain {
        let meta = fs::symlink_metadata(part).map_err(|error| in_words(part, &error))?;
        trust.refuse(part, &meta)?;
        user = meta.uid();
    }
    Ok(Place { path, user, trust })
}

/// What the system refused, for who asked for a ledger.
pub(super) fn in_words(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("{} is gone", path.display()),
        _ => format!("could not read {}: {error}", path.display()),
    }
}
