//! cgroup v2: a directory for each workload, `<own cgroup>/tenure-<instance>/<workload uid>`, where the kernel lets us.
//!
//! Membership is inherited and cannot be cleared, so this mark misses nothing. What it needs is a writable cgroup2 mount:
//! root, or a delegated subtree that this process itself lives in. Where there is none, [`Cgroups::detect`] says so, and the
//! other marks have to do.

use super::process::is_gone;
use super::read::status_number;
use crate::model::{InstanceId, Pid, WorkloadUid};
use crate::os::{OsError, is_plain_name};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where this instance may make cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    /// `<mount>/<own cgroup>/tenure-<instance>`.
    base: PathBuf,
    /// The same place, as `/proc/PID/cgroup` names it.
    hierarchy: String,
}

impl Cgroups {
    /// Finds the cgroup2 mount (alone, or beside version 1) and makes this instance's base in it. `None`: not here, or
    /// `TENURE_CGROUP=off`.
    pub fn detect(instance: &InstanceId) -> Option<Cgroups> {
        if std::env::var_os("TENURE_CGROUP").is_some_and(|value| value == "off") || !is_plain_name(instance.as_str()) {
            return None;
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = outside_of_instances(own.lines().find_map(|line| line.strip_prefix("0::"))?);
        let (root, mount) = mounts.lines().find_map(cgroup2_mount)?;
        // Of the mount we see what lies below its root. When our own cgroup does not (a container with its host's view in
        // `/proc`), what we see is what was given to us.
        let below = Path::new(own).strip_prefix(&root).ok().filter(|below| mount.join(below).is_dir());
        let (parent, hierarchy) = match below {
            Some(below) => (mount.join(below), own.to_owned()),
            None => (mount, root),
        };
        let name = format!("tenure-{instance}");
        let cgroups =
            Cgroups { base: parent.join(&name), hierarchy: format!("{}/{name}", hierarchy.trim_end_matches('/')) };
        match make(&cgroups.base) {
            Ok(()) => Some(cgroups),
            Err(error) => {
                tracing::debug!(%error, "no cgroups here; the other marks have to do");
                None
            }
        }
    }

    /// This instance's directory.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The directory of a workload.
    pub fn path(&self, uid: &WorkloadUid) -> PathBuf {
        self.base.join(uid.as_str())
    }

    /// The same, as `/proc/PID/cgroup` names it.
    pub fn hierarchy_path(&self, uid: &WorkloadUid) -> String {
        format!("{}/{uid}", self.hierarchy)
    }

    /// Makes the cgroup of a workload, or finds it there. The limit is set where the memory controller can be had; where it
    /// cannot, there is none, and the log says so.
    pub fn create(&self, uid: &WorkloadUid, memory_max: Option<u64>) -> Result<PathBuf, OsError> {
        let path = self.checked(uid)?;
        make(&self.base)?;
        if memory_max.is_some() {
            self.enable_memory();
        }
        make(&path)?;
        if let Some(bytes) = memory_max
            && let Err(error) = write(&path.join("memory.max"), &bytes.to_string())
        {
            tracing::debug!(workload = %uid, %error, "no memory limit: the memory controller is not available");
        }
        Ok(path)
    }

    /// The living members of a workload's cgroup and of all cgroups below it; `None`: there is no such cgroup.
    ///
    /// The kernel prints `0` for a member that dies between two reads, or that lives in another pid namespace; `kill(0)`
    /// would be suicide. Such numbers are dropped here.
    pub fn procs(&self, uid: &WorkloadUid) -> Result<Option<Vec<Pid>>, OsError> {
        let mut pids = BTreeSet::new();
        Ok(collect(&self.checked(uid)?, &mut pids)?.then(|| pids.into_iter().collect()))
    }

    /// Ends every member at once, forks in flight included. `false`: this kernel cannot, or there is no such cgroup.
    pub fn kill(&self, uid: &WorkloadUid) -> Result<bool, OsError> {
        kill_cgroup(&self.checked(uid)?)
    }

    /// Removes the cgroup of a workload, those below it first; true as well if it is not there. `false`: it has members.
    pub fn remove(&self, uid: &WorkloadUid) -> Result<bool, OsError> {
        remove_cgroup(&self.checked(uid)?)
    }

    /// The workloads that have a cgroup.
    pub fn list(&self) -> Result<Vec<WorkloadUid>, OsError> {
        let names = children(&self.base)?.unwrap_or_default();
        Ok(names.iter().filter_map(|path| path.file_name()?.to_str()).map(WorkloadUid::from).collect())
    }

    /// Stops every member of a workload's cgroup where it is, or lets them go on. Killing reaches them all the same. `false`:
    /// this kernel cannot, or there is no such cgroup.
    pub fn freeze(&self, uid: &WorkloadUid, frozen: bool) -> Result<bool, OsError> {
        match write(&self.checked(uid)?.join("cgroup.freeze"), if frozen { "1" } else { "0" }) {
            Ok(()) => Ok(true),
            Err(OsError::Write { source, .. }) if is_absent(&source) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Moves a process out of its workload's cgroup, to what was let go. It loses this mark by that, and no other.
    pub fn let_go(&self, pid: Pid) -> Result<(), OsError> {
        let place = let_go_of(&self.base);
        make(&place)?;
        write(&place.join("cgroup.procs"), &pid.to_string())
    }

    /// Removes this instance's base, and the place of what was let go, where nothing is left in them.
    pub fn remove_base(&self) {
        let _ = fs::remove_dir(let_go_of(&self.base));
        if let Err(error) = fs::remove_dir(&self.base) {
            tracing::debug!(%error, path = %self.base.display(), "the base of the cgroups stays");
        }
    }

    fn checked(&self, uid: &WorkloadUid) -> Result<PathBuf, OsError> {
        if is_plain_name(uid.as_str()) { Ok(self.path(uid)) } else { Err(OsError::Name(uid.to_string())) }
    }

    /// Lets the workloads' cgroups have memory limits: from the top down, as far as the kernel allows. Below the root it
    /// refuses to do so for a cgroup that has processes of its own; then this one of ours must have been given it.
    fn enable_memory(&self) {
        for directory in self.base.parent().into_iter().chain([self.base.as_path()]) {
            let has = |file: &str| {
                let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
                text.split_ascii_whitespace().any(|controller| controller == "memory")
            };
            if has("cgroup.controllers") && !has("cgroup.subtree_control") {
                let tried = write(&directory.join("cgroup.subtree_control"), "+memory");
                tracing::debug!(directory = %directory.display(), ok = tried.is_ok(), "memory controller enabled");
            }
        }
    }
}

/// The part of a cgroup's path that lies above all instances. A controller may run inside of a workload of another one: with
/// its cgroups below that workload's, they would end with it, and they are none of its business.
fn outside_of_instances(own: &str) -> &str {
    let is_instance = |name: &str| {
        let id = name.strip_prefix("tenure-").map(|rest| rest.strip_suffix("-let-go").unwrap_or(rest));
        id.is_some_and(|id| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let mut at = 0;
    for name in own.split('/') {
        if is_instance(name) {
            return if at > 1 { &own[..at - 1] } else { "/" };
        }
        at += name.len() + 1;
    }
    own
}

/// Where an instance's cgroups of this base put what was let go: beside it, so that nobody takes it for a workload's.
fn let_go_of(base: &Path) -> PathBuf {
    let mut name = base.file_name().unwrap_or_default().to_owned();
    name.push("-let-go");
    base.with_file_name(name)
}

/// Moves this process out of the cgroup of a workload (as its spec names it), to what was let go.
///
/// # Errors
/// The system does not allow it.
pub fn leave_cgroup(of_workload: &Path) -> Result<(), OsError> {
    let place = let_go_of(of_workload.parent().unwrap_or(of_workload));
    make(&place)?;
    // 0: the writer itself.
    write(&place.join("cgroup.procs"), "0")
}

/// Moves this process, which serves the workload of this cgroup, out of the cgroup of another instance's workload, if it was
/// started in one: it would end with that one. Stays where the system does not allow it.
pub fn leave_other_instances(of_workload: &Path) {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(own) = own.lines().find_map(|line| line.strip_prefix("0::")) else { return };
    let base = of_workload.parent().unwrap_or(of_workload);
    if outside_of_instances(own) == own {
        return;
    }
    // A cgroup that hands on its controllers takes no processes, but for the root.
    let beside = base.parent().map(|parent| write(&parent.join("cgroup.procs"), "0"));
    if !matches!(beside, Some(Ok(())))
        && let Err(error) = leave_cgroup(of_workload)
    {
        tracing::debug!(%error, "in the cgroup of another instance's workload");
    }
}

/// Moves whoever is left in the cgroup of a workload to what was let go.
///
/// # Errors
/// The system does not allow it.
pub fn empty_cgroup(of_workload: &Path) -> Result<(), OsError> {
    let place = let_go_of(of_workload.parent().unwrap_or(of_workload));
    let left = members_of_cgroup(of_workload)?;
    if left.is_empty() {
        return Ok(());
    }
    make(&place)?;
    left.into_iter().try_for_each(|pid| write(&place.join("cgroup.procs"), &pid.to_string()))
}

/// Ends every member of the cgroup of a workload (as its spec names it), and of those below it, at once. `false`: this kernel
/// cannot, or there is no such cgroup.
///
/// # Errors
/// The system does not allow it.
pub fn kill_cgroup(of_workload: &Path) -> Result<bool, OsError> {
    match write(&of_workload.join("cgroup.kill"), "1") {
        Ok(()) => Ok(true),
        Err(OsError::Write { source, .. })
            if is_absent(&source) || Errno::from_io_error(&source) == Some(Errno::OPNOTSUPP) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The living members of the cgroup of a workload, and of those below it; none as well if it is not there.
///
/// # Errors
/// One that is there cannot be read.
pub fn members_of_cgroup(of_workload: &Path) -> Result<BTreeSet<Pid>, OsError> {
    let mut members = BTreeSet::new();
    collect(of_workload, &mut members)?;
    Ok(members)
}

/// Removes the cgroup of a workload, those below it first; true as well if it is not there. `false`: it has members.
///
/// # Errors
/// The system does not allow it.
pub fn remove_cgroup(of_workload: &Path) -> Result<bool, OsError> {
    for child in children(of_workload)?.unwrap_or_default() {
        if !remove_cgroup(&child)? {
            return Ok(false);
        }
    }
    match fs::remove_dir(of_workload) {
        Ok(()) => Ok(true),
        Err(error) if is_absent(&error) => Ok(true),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => Ok(false),
        Err(source) => Err(OsError::Write { verb: "remove", path: of_workload.into(), source }),
    }
}

/// Root and mount point, if a line of `/proc/self/mountinfo` is that of a cgroup2 mount.
fn cgroup2_mount(line: &str) -> Option<(String, PathBuf)> {
    let (place, kind) = line.split_once(" - ")?;
    let mut fields = place.split(' ').skip(3);
    let (root, mount) = (fields.next()?, fields.next()?);
    (kind.split(' ').next() == Some("cgroup2")).then(|| (unescape(root), PathBuf::from(unescape(mount))))
}

/// `\040` and the like, as the kernel writes spaces in mount tables.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

fn make(path: &Path) -> Result<(), OsError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(|source| OsError::Write { verb: "make", path: path.into(), source }),
    }
}

/// Writes to a file that the kernel provides: never makes one.
fn write(path: &Path, text: &str) -> Result<(), OsError> {
    use std::io::Write;
    let failed = |source| OsError::Write { verb: "write", path: path.into(), source };
    let mut file = fs::OpenOptions::new().write(true).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// The cgroup went away: `ENODEV` is what its open files give then.
pub(super) fn is_absent(error: &io::Error) -> bool {
    is_gone(error) || Errno::from_io_error(error) == Some(Errno::NODEV)
}

/// The directories in a cgroup's directory; `None`: it is not there.
fn children(path: &Path) -> Result<Option<Vec<PathBuf>>, OsError> {
    let failed = |source| OsError::Read { path: path.into(), source };
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => found.push(entry.path()),
            Ok(_) => {}
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(Some(found))
}

/// Adds the members of a cgroup and of those below it; `false`: it is not there.
fn collect(path: &Path, pids: &mut BTreeSet<Pid>) -> Result<bool, OsError> {
    let file = path.join("cgroup.procs");
    match fs::read_to_string(&file) {
        Ok(text) => pids.extend(numbers(&text)),
        Err(error) if is_absent(&error) => return Ok(false),
        // A threaded cgroup lists its threads only. A member can make its cgroup threaded, and must not hide by it.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::OPNOTSUPP) => {
            let threads = fs::read_to_string(path.join("cgroup.threads")).unwrap_or_default();
            pids.extend(numbers(&threads).filter_map(process_of_thread));
        }
        Err(source) => return Err(OsError::Read { path: file, source }),
    }
    for child in children(path)?.unwrap_or_default() {
        collect(&child, pids)?;
    }
    Ok(true)
}

pub(super) fn numbers(text: &str) -> impl Iterator<Item = Pid> {
    text.lines().filter_map(|line| line.trim().parse().ok().and_then(Pid::new))
}

pub(super) fn process_of_thread(thread: Pid) -> Option<Pid> {
    let status = fs::read(format!("/proc/{thread}/status")).ok()?;
    status_number(&status, "Tgid:").and_then(|number| i32::try_from(number).ok()).and_then(Pid::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn the_mount_is_found_alone_and_beside_version_1() {
        let hybrid = "35 24 0:30 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(cgroup2_mount(hybrid), Some(("/".into(), "/sys/fs/cgroup/unified".into())));
        let bound = "35 24 0:30 /a\\040b /sys/fs/cgroup rw - cgroup2 cgroup rw,nsdelegate";
        assert_eq!(cgroup2_mount(bound), Some(("/a b".into(), "/sys/fs/cgroup".into())));
        assert_eq!(cgroup2_mount("36 24 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"), None);
        assert_eq!(cgroup2_mount(""), None);
    }

    #[test]
    fn an_instance_does_not_live_in_another_ones_cgroups() {
        for (own, outside) in [
            ("/", "/"),
            ("/user.slice/a", "/user.slice/a"),
            ("/user.slice/tenure-0123456789ab/w", "/user.slice"),
            ("/tenure-0123456789ab-let-go", "/"),
            ("/a/tenure-0123456789ab/w/tenure-ba9876543210/v", "/a"),
            ("/system.slice/tenure-agents.service", "/system.slice/tenure-agents.service"),
        ] {
            assert_eq!(outside_of_instances(own), outside, "{own}");
        }
    }

    #[test]
    fn a_name_is_never_a_path() {
        let cgroups = Cgroups { base: "/nowhere".into(), hierarchy: "/".into() };
        for name in ["", ".", "..", "../x", "a/b", "/", "a b", ".hidden"] {
            let error = cgroups.remove(&WorkloadUid::from(name)).unwrap_err();
            assert!(matches!(error, OsError::Name(_)), "{name:?}: {error}");
        }
        assert!(is_plain_name("0198c2a4-7d1e-7000-8000-0123456789ab"));
    }

    #[test]
    fn numbers_that_are_no_pids_are_dropped() {
        assert_eq!(numbers("12\n0\n-3\n\nx\n7\n").map(Pid::get).collect::<Vec<_>>(), [12, 7]);
    }

    #[test]
    fn a_cgroup_holds_what_it_was_given_and_what_that_started() {
        let instance = InstanceId(format!("test-cg-{}", std::process::id()));
        let Some(cgroups) = Cgroups::detect(&instance) else { return };
        let uid = WorkloadUid::from("w1");
        assert_eq!(cgroups.procs(&uid).unwrap(), None);
        assert!(!cgroups.kill(&uid).unwrap());
        assert!(cgroups.remove(&uid).unwrap());

        let path = cgroups.create(&uid, Some(1 << 30)).unwrap();
        assert_eq!(cgroups.create(&uid, None).unwrap(), path);
        let below = path.join("inner");
        fs::create_dir(&below).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "echo $$ >\"$0/cgroup.procs\"; sleep 1000 & wait"])
            .arg(&below)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let members = loop {
            let members = cgroups.procs(&uid).unwrap().unwrap();
            if members.len() == 2 || std::time::Instant::now() > deadline {
                break members;
            }
            std::thread::yield_now();
        };
        assert_eq!(members.len(), 2);
        assert!(members.iter().any(|pid| pid.get() as u32 == child.id()));
        assert_eq!(cgroups.list().unwrap(), std::slice::from_ref(&uid));
        assert!(!cgroups.remove(&uid).unwrap(), "removed with members in it");

        if !cgroups.kill(&uid).unwrap() {
            child.kill().unwrap();
        }
        child.wait().unwrap();
        while !cgroups.remove(&uid).unwrap() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(cgroups.procs(&uid).unwrap(), None);
        cgroups.remove_base();
        assert!(!cgroups.base().exists());
    }
}
