//! Who the users of this host are.

use nix::unistd::{Uid, User};
use std::path::PathBuf;

/// The name of a user; its number, if it has none.
pub fn user_name(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

/// The home directory of a user, as the system has it.
pub fn home_of(uid: u32) -> Option<PathBuf> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.dir).filter(|dir| dir.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_a_name_is_its_number() {
        assert_eq!((user_name(0).as_str(), home_of(0)), ("root", Some("/root".into())));
        assert_eq!((user_name(4_000_000_000).as_str(), home_of(4_000_000_000)), ("4000000000", None));
    }
}
