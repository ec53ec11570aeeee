//! Who is in our cgroups, through descriptors that stay open: asking again costs a `pread` and an `fstat` for each.
//!
//! A cgroup that went away says so on its open files (`ENODEV`), and one that was made anew under the same name has another
//! inode. Cgroups below a workload's are rare; the link count of its directory says whether there are any.

use super::cgroup::{Cgroups, is_absent, numbers, process_of_thread};
use crate::model::{Pid, WorkloadUid};
use crate::os::{OsError, is_plain_name};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// How many cgroups stay open at most, with two descriptors each; what is beyond is opened for each look.
const KEPT: usize = 200;

/// The cgroups of this instance, held open.
#[derive(Debug)]
pub struct CgroupMembers {
    cgroups: Cgroups,
    open: BTreeMap<String, Node>,
}

/// One cgroup.
#[derive(Debug)]
struct Node {
    inode: u64,
    directory: OwnedFd,
    procs: OwnedFd,
}

impl CgroupMembers {
    /// Nothing is opened yet.
    pub fn new(cgroups: Cgroups) -> CgroupMembers {
        CgroupMembers { cgroups, open: BTreeMap::new() }
    }

    /// Where the cgroups are.
    pub fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// Every workload that has a cgroup, with the members of that and of all cgroups below it.
    ///
    /// The kernel prints `0` for a member that dies between two reads, or that lives in another pid namespace; `kill(0)`
    /// would be suicide. Such numbers are dropped here.
    ///
    /// # Errors
    /// A cgroup that is there cannot be read.
    pub fn read(&mut self) -> Result<BTreeMap<WorkloadUid, Vec<Pid>>, OsError> {
        let mut all = BTreeMap::new();
        let listed = match self.list()? {
            Some(listed) => listed,
            None => {
                self.open.clear();
                return Ok(all);
            }
        };
        self.open.retain(|name, node| listed.get(name) == Some(&node.inode));
        for (name, inode) in listed.into_iter().filter(|(name, _)| is_plain_name(name)) {
            let path = self.cgroups.base().join(&name);
            let mut pids = BTreeSet::new();
            let kept = match self.open.get(&name) {
                Some(node) => node.read(&path, &mut pids)?,
                None => match Node::open(&path)? {
                    Some(node) => {
                        let there = node.read(&path, &mut pids)?;
                        if there && node.inode == inode && self.open.len() < KEPT {
                            self.open.insert(name.clone(), node);
                        }
                        there
                    }
                    None => false,
                },
            };
            if kept {
                all.insert(WorkloadUid(name), pids.into_iter().collect());
            } else {
                self.open.remove(&name);
            }
        }
        Ok(all)
    }

    /// The cgroups in the base, each with its inode; `None`: the base is not there.
    fn list(&self) -> Result<Option<BTreeMap<String, u64>>, OsError> {
        let path = self.cgroups.base().to_owned();
        // Opened for each look: an open directory that was removed, and made again, goes on to say that it is empty.
        match open_directory(&path)? {
            Some(base) => directories(&base, &path),
            None => Ok(None),
        }
    }
}

impl Node {
    /// `None`: it is not there.
    fn open(path: &Path) -> Result<Option<Node>, OsError> {
        let Some(directory) = open_directory(path)? else { return Ok(None) };
        let inode = fstat(&directory).map_err(failed(path))?.st_ino;
        match openat(&directory, "cgroup.procs", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(procs) => Ok(Some(Node { inode, directory, procs })),
            Err(errno) if is_absent(&errno.into()) => Ok(None),
            Err(errno) => Err(failed(&path.join("cgroup.procs"))(errno)),
        }
    }

    /// Adds its members, and those of the cgroups below it; `false`: it has gone away.
    fn read(&self, path: &Path, pids: &mut BTreeSet<Pid>) -> Result<bool, OsError> {
        match read_from_start(&self.procs) {
            Ok(text) => pids.extend(numbers(&text)),
            Err(errno) if is_absent(&errno.into()) => return Ok(false),
            // A threaded cgroup lists its threads only. A member can make its cgroup threaded, and must not hide by it.
            Err(Errno::OPNOTSUPP) => {
                let threads =
                    openat(&self.directory, "cgroup.threads", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                        .and_then(|file| read_from_start(&file));
                match threads {
                    Ok(text) => pids.extend(numbers(&text).filter_map(process_of_thread)),
                    Err(errno) if is_absent(&errno.into()) => return Ok(false),
                    Err(errno) => return Err(failed(&path.join("cgroup.threads"))(errno)),
                }
            }
            Err(errno) => return Err(failed(&path.join("cgroup.procs"))(errno)),
        }
        // A directory of cgroupfs counts itself, its name above, and each cgroup in it.
        if fstat(&self.directory).map_err(failed(path))?.st_nlink > 2 {
            for name in directories(&self.directory, path)?.unwrap_or_default().into_keys() {
                let below = path.join(name);
                if let Some(node) = Node::open(&below)? {
                    node.read(&below, pids)?;
                }
            }
        }
        Ok(true)
    }
}

fn failed(path: &Path) -> impl Fn(Errno) -> OsError {
    let path = PathBuf::from(path);
    move |errno| OsError::Read { path: path.clone(), source: errno.into() }
}

/// `None`: it is not there.
fn open_directory(path: &Path) -> Result<Option<OwnedFd>, OsError> {
    match openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(errno) if is_absent(&io::Error::from(errno)) => Ok(None),
        Err(errno) => Err(failed(path)(errno)),
    }
}

/// The directories in an open one, with their inodes; `None`: it has gone away.
fn directories(directory: &OwnedFd, path: &Path) -> Result<Option<BTreeMap<String, u64>>, OsError> {
    let mut found = BTreeMap::new();
    for entry in Dir::read_from(directory).map_err(failed(path))? {
        let entry = match entry {
            Ok(entry) => entry,
            Err(errno) if is_absent(&errno.into()) => return Ok(None),
            Err(errno) => return Err(failed(path)(errno)),
        };
        if let Ok(name) = entry.file_name().to_str()
            && entry.file_type() == FileType::Directory
            && !matches!(name, "." | "..")
        {
            found.insert(name.to_owned(), entry.ino());
        }
    }
    Ok(Some(found))
}

/// All of a file, from its start, wherever it was read to before.
fn read_from_start(file: &OwnedFd) -> Result<String, Errno> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match rustix::io::pread(file, &mut chunk, bytes.len() as u64) {
            Ok(0) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::InstanceId;
    use crate::os::testing::{KillOnDrop, eventually, id_of};
    use std::fs;
    use std::process::{Child, Command, Stdio};

    /// The cgroups of a test, where there can be any; removed in the end.
    struct Scratch(CgroupMembers);

    impl Scratch {
        fn new(name: &str) -> Option<Scratch> {
            let cgroups = Cgroups::detect(&InstanceId(format!("test-{name}-{}", std::process::id())))?;
            Some(Scratch(CgroupMembers::new(cgroups)))
        }

        fn read(&mut self) -> BTreeMap<String, usize> {
            self.0.read().unwrap().into_iter().map(|(uid, pids)| (uid.to_string(), pids.len())).collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            for uid in self.0.cgroups.list().unwrap() {
                eventually("an empty cgroup", || self.0.cgroups.remove(&uid).unwrap().then_some(()));
            }
            self.0.cgroups.remove_base();
        }
    }

    fn inside(directory: &Path) -> (Child, KillOnDrop) {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec sleep 1030"]).arg(directory).stdin(Stdio::null());
        let child = command.spawn().unwrap();
        let held = KillOnDrop(id_of(&child));
        (child, held)
    }

    #[test]
    fn cgroups_that_come_change_and_go_are_followed_through_what_is_kept() {
        let Some(mut scratch) = Scratch::new("members") else { return };
        assert_eq!(scratch.read(), BTreeMap::new());
        let (a, b) = (WorkloadUid::from("a"), WorkloadUid::from("b"));
        let path = scratch.0.cgroups.create(&a, None).unwrap();
        scratch.0.cgroups.create(&b, None).unwrap();
        let counts = |a: usize, b: usize| BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        assert_eq!(scratch.read(), counts(0, 0));
        let (mut first, held_first) = inside(&path);
        eventually("the first", || (scratch.read() == counts(1, 0)).then_some(()));
        // Below, and below that; the directory is open already.
        let below = path.join("x/y");
        fs::create_dir_all(&below).unwrap();
        let (mut second, held_second) = inside(&below);
        eventually("the second", || (scratch.read() == counts(2, 0)).then_some(()));
        drop((held_first, held_second));
        first.wait().unwrap();
        second.wait().unwrap();
        // Removed and made anew: the open files are those of the old one.
        eventually("its removal", || scratch.0.cgroups.remove(&a).unwrap().then_some(()));
        assert!(scratch.0.open.contains_key("a"));
        scratch.0.cgroups.create(&a, None).unwrap();
        let (mut third, held_third) = inside(&path);
        eventually("the third", || (scratch.read() == counts(1, 0)).then_some(()));
        drop(held_third);
        third.wait().unwrap();
        scratch.0.cgroups.remove(&b).unwrap();
        eventually("one left", || (scratch.read() == BTreeMap::from([("a".to_owned(), 0)])).then_some(()));
        // The base too.
        eventually("its removal", || scratch.0.cgroups.remove(&a).unwrap().then_some(()));
        scratch.0.cgroups.remove_base();
        assert_eq!(scratch.read(), BTreeMap::new());
        scratch.0.cgroups.create(&b, None).unwrap();
        assert_eq!(scratch.read(), BTreeMap::from([("b".to_owned(), 0)]));
    }

    #[test]
    fn who_makes_its_cgroup_threaded_does_not_hide_by_it() {
        let Some(mut scratch) = Scratch::new("threaded") else { return };
        let uid = WorkloadUid::from("w");
        let path = scratch.0.cgroups.create(&uid, None).unwrap();
        let (mut child, held) = inside(&path);
        eventually("it", || (scratch.read() == BTreeMap::from([("w".to_owned(), 1)])).then_some(()));
        let below = path.join("below");
        fs::create_dir(&below).unwrap();
        fs::write(below.join("cgroup.type"), "threaded").unwrap();
        fs::write(below.join("cgroup.threads"), held.0.pid.to_string()).unwrap();
        assert!(fs::read_to_string(below.join("cgroup.procs")).is_err());
        let mut pids = BTreeSet::new();
        assert!(Node::open(&below).unwrap().unwrap().read(&below, &mut pids).unwrap());
        assert_eq!(pids, BTreeSet::from([held.0.pid]));
        let all = scratch.0.read().unwrap();
        assert_eq!(all[&uid], [held.0.pid]);
        drop(held);
        child.wait().unwrap();
    }

    #[test]
    fn cgroups_beyond_what_is_kept_are_read_all_the_same() {
        let Some(mut scratch) = Scratch::new("many") else { return };
        for number in 0..KEPT + 3 {
            scratch.0.cgroups.create(&WorkloadUid(format!("w{number}")), None).unwrap();
        }
        assert_eq!(scratch.read().len(), KEPT + 3);
        assert_eq!((scratch.0.open.len(), scratch.read().len()), (KEPT, KEPT + 3));
    }
}
