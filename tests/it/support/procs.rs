//! Processes as /proc shows them: the tests' own eyes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One process: pid and start time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub pid: i32,
    pub start: u64,
    pub command: String,
}

impl Process {
    /// Whether it still runs: a zombie does not.
    pub fn is_alive(&self) -> bool {
        process(self.pid).is_some_and(|now| now.start == self.start)
    }
}

/// The living process of this pid.
pub fn process(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ").trim().to_owned();
    Some(Process { pid, start: fields.get(19)?.parse().ok()?, command })
}

/// Every living process.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| process(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Every living process whose environment has a mark that contains this text.
pub fn marked(text: &str) -> Vec<Process> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let marked = environment
            .split(|byte| *byte == 0)
            .filter_map(|entry| std::str::from_utf8(entry).ok())
            .any(|entry| entry.starts_with("TENURE_WORKLOAD=") && entry.contains(text));
        if marked {
            found.extend(process(pid));
        }
    }
    found
}

/// Every living process whose working directory is below this one: what cleared its environment and left its parents and its
/// session is known by that.
pub fn working_below(dir: &Path) -> Vec<Process> {
    let is_below = |process: &Process| {
        fs::read_link(format!("/proc/{}/cwd", process.pid)).is_ok_and(|directory| directory.starts_with(dir))
    };
    all().into_iter().filter(is_below).collect()
}

/// The cgroups that an instance has for its workloads.
pub fn cgroups_of_instance(instance: &str) -> Vec<PathBuf> {
    let bases = cgroup_roots().into_iter().flat_map(|root| find(&root, &format!("tenure-{instance}"), 3));
    let below = bases.flat_map(|base| fs::read_dir(base).into_iter().flatten().flatten());
    below.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Cgroups that are named after a workload.
pub fn cgroups_of(uid: &str) -> Vec<PathBuf> {
    cgroup_roots().iter().flat_map(|root| find(root, uid, 3)).collect()
}

fn cgroup_roots() -> Vec<PathBuf> {
    ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .iter()
        .map(PathBuf::from)
        .filter(|path| path.join("cgroup.procs").exists())
        .collect()
}

fn find(dir: &Path, name: &str, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        if entry.file_name().to_string_lossy() == name {
            found.push(entry.path());
        } else if depth > 0 {
            found.extend(find(&entry.path(), name, depth - 1));
        }
    }
    found
}

/// Sends a signal by name.
pub fn signal(pid: impl std::fmt::Display, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

/// The id of the instance whose state directory this is.
pub fn instance_of(state: &Path) -> Option<String> {
    let store =
        rusqlite::Connection::open_with_flags(state.join("tenure.db"), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
            .ok()?;
    store.query_row("SELECT value FROM meta WHERE key = 'instance'", [], |row| row.get(0)).ok()
}

/// Kills whatever carries a mark of this instance: what a failed test left behind. Its cgroups go too.
pub fn kill_instance(instance: &str) {
    for root in cgroup_roots() {
        for group in find(&root, &format!("tenure-{instance}"), 3) {
            let _ = fs::write(group.join("cgroup.kill"), "1");
        }
    }
    let begun = std::time::Instant::now();
    loop {
        let left = marked(&format!("{instance}/"));
        if left.is_empty() || begun.elapsed() > super::PATIENCE {
            break;
        }
        for process in left {
            let _ = Command::new("kill").args(["-KILL", &process.pid.to_string()]).output();
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    for root in cgroup_roots() {
        let of_instance = [format!("tenure-{instance}"), format!("tenure-{instance}-let-go")];
        for group in of_instance.iter().flat_map(|name| find(&root, name, 3)) {
            for inner in fs::read_dir(&group).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(inner.path());
            }
            let _ = fs::remove_dir(group);
        }
    }
}

/// The parent of a process.
pub fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The process with all that descends from it.
pub fn below(pid: i32) -> Vec<Process> {
    let all = all();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(above) = found.get(next).copied() {
        next += 1;
        found.extend(all.iter().filter(|it| parent(it.pid) == Some(above)).map(|it| it.pid));
    }
    all.into_iter().filter(|process| found.contains(&process.pid)).collect()
}
