//! Which state directory is meant.

use super::CliError;
use crate::os::StateDir;
use std::ffi::OsString;
use std::path::PathBuf;

/// `--state`, else `$TENURE_STATE`, else `$STATE_DIRECTORY` (systemd), else `/var/lib/tenure` for root, else
/// `$XDG_STATE_HOME/tenure` (`~/.local/state/tenure`).
pub(super) fn resolve(
    given: Option<PathBuf>,
    variable: impl Fn(&str) -> Option<OsString>,
    user: u32,
) -> Result<StateDir, CliError> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let found = given.or_else(|| set("TENURE_STATE")).or_else(|| set("STATE_DIRECTORY")).or_else(|| {
        if user == 0 {
            return Some(PathBuf::from("/var/lib/tenure"));
        }
        let home = || set("HOME").map(|home| home.join(".local/state"));
        set("XDG_STATE_HOME").or_else(home).map(|base| base.join("tenure"))
    });
    let dir = found.ok_or_else(|| CliError::Usage("there is no $HOME; say --state DIR".into()))?;
    // Shims and agents live in other directories: the path must mean the same to them.
    let dir = std::path::absolute(&dir).unwrap_or(dir);
    Ok(StateDir(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_wins() {
        let with = |given: Option<&str>, set: &[(&str, &str)], user| {
            let set: Vec<(String, OsString)> = set.iter().map(|(k, v)| ((*k).to_owned(), OsString::from(v))).collect();
            let variable = |name: &str| set.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
            resolve(given.map(PathBuf::from), variable, user).unwrap().0.display().to_string()
        };
        let all = [("TENURE_STATE", "/t"), ("STATE_DIRECTORY", "/s"), ("XDG_STATE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(with(Some("/g"), &all, 0), "/g");
        assert_eq!(with(None, &all, 0), "/t");
        assert_eq!(with(None, &all[1..], 0), "/s");
        assert_eq!(with(None, &all[2..], 0), "/var/lib/tenure");
        assert_eq!(with(None, &all[2..], 1000), "/x/tenure");
        assert_eq!(with(None, &all[3..], 1000), "/h/.local/state/tenure");
    }
}
