//! Which state directory is meant.

use crate::os::{self, StateDir};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::failure::Failure;

/// The state directory: the flag, else `$TENURE_STATE`, else `$STATE_DIRECTORY` (systemd), else `/var/lib/tenure` for root, else
/// `$XDG_STATE_HOME/tenure`. Absolute.
pub fn state_dir(flag: Option<&Path>) -> Result<StateDir, Failure> {
    let path = resolve(flag, |name| std::env::var_os(name), os::effective_uid() == 0)?;
    let absolute = std::path::absolute(&path).map_err(|error| {
        Failure::failed(format!("the state directory {} has no absolute path: {error}", path.display()))
    })?;
    Ok(StateDir(absolute))
}

/// The same as a function of what it depends on. A variable that is empty counts as not set.
fn resolve(flag: Option<&Path>, var: impl Fn(&str) -> Option<OsString>, is_root: bool) -> Result<PathBuf, Failure> {
    let var = |name: &str| var(name).filter(|value| !value.is_empty());
    if let Some(path) = flag {
        return Ok(path.to_owned());
    }
    if let Some(path) = var("TENURE_STATE") {
        return Ok(path.into());
    }
    // systemd gives one directory for each name in `StateDirectory=`, with colons between them.
    if let Some(paths) = var("STATE_DIRECTORY")
        && let Some(first) = std::env::split_paths(&paths).find(|path| !path.as_os_str().is_empty())
    {
        return Ok(first);
    }
    if is_root {
        return Ok("/var/lib/tenure".into());
    }
    // The XDG specification: a path that is not absolute is to be ignored.
    let xdg = var("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = xdg.or_else(|| var("HOME").map(|home| Path::new(&home).join(".local/state")));
    let base = base.ok_or_else(|| {
        Failure::usage("no state directory is known: neither $XDG_STATE_HOME nor $HOME is set")
            .help("name one with --state DIR")
    })?;
    Ok(base.join("tenure"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_first_that_is_said_holds() {
        let all =
            [("TENURE_STATE", "/t"), ("STATE_DIRECTORY", "/s1:/s2"), ("XDG_STATE_HOME", "/x"), ("HOME", "/home/u")];
        type Case = (Option<&'static str>, &'static [&'static str], bool, Option<&'static str>);
        let cases: [Case; 10] = [
            (Some("flag"), &["TENURE_STATE"], true, Some("flag")),
            (None, &["TENURE_STATE", "STATE_DIRECTORY"], true, Some("/t")),
            (None, &["STATE_DIRECTORY", "XDG_STATE_HOME"], true, Some("/s1")),
            (None, &["XDG_STATE_HOME", "HOME"], true, Some("/var/lib/tenure")),
            (None, &["XDG_STATE_HOME", "HOME"], false, Some("/x/tenure")),
            (None, &["HOME"], false, Some("/home/u/.local/state/tenure")),
            (None, &[], true, Some("/var/lib/tenure")),
            (None, &[], false, None),
            (None, &["empty TENURE_STATE", "HOME"], false, Some("/home/u/.local/state/tenure")),
            (None, &["relative XDG_STATE_HOME", "HOME"], false, Some("/home/u/.local/state/tenure")),
        ];
        for (flag, set, is_root, expected) in cases {
            let mut vars: BTreeMap<&str, &str> = all.into_iter().filter(|(name, _)| set.contains(name)).collect();
            if set.contains(&"empty TENURE_STATE") {
                vars.insert("TENURE_STATE", "");
            }
            if set.contains(&"relative XDG_STATE_HOME") {
                vars.insert("XDG_STATE_HOME", "here");
            }
            let got = resolve(flag.map(Path::new), |name| vars.get(name).map(Into::into), is_root);
            assert_eq!(got.ok(), expected.map(PathBuf::from), "{flag:?} {set:?} root: {is_root}");
        }
    }
}
