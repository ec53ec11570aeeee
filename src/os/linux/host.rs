//! Every process of the host with what a census tells of it, kept from pass to pass.
//!
//! As for [`ProcessTable`](super::ProcessTable), one pass over `/proc` says who came and who went by (pid, inode), and only who
//! came is read as a whole. What was read goes stale, and is read again:
//! - who was read when it was young, who was in the middle of an exec, and in turn everybody once a minute;
//! - the `stat` of who lost its parent;
//! - at each pass the `stat` of those that **matter** to the caller, of all below them, and of all above them; all of such a one
//!   if that shows an exec.
//!
//! So of the others state and memory are up to a minute old, and a pass over 10,000 processes costs a list and a few hundred
//! readings. Unlike that table, this one keeps command lines and users of all: it is for who asks rarely.

#[cfg(test)]
mod tests;

use super::listing::{Listed, Listing};
use super::process::{clock_ticks_per_second, is_gone, page_size};
use super::read::{Found, Home, read_stat, status_number};
use super::stat::Stat;
use super::table::since_boot;
use super::turns::Turns;
use crate::model::{HostProcess, Pid, ProcId, Reading, Time};
use crate::os::OsError;
use crate::os::mark::{variables_in, words_in};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A process this young may still exec.
const YOUNG: Duration = Duration::from_secs(3);

/// More of a command line than this is not kept.
const MAX_COMMAND: usize = 128 << 10;

/// `PF_KTHREAD` of the kernel's `sched.h`.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// All processes of the host.
#[derive(Debug)]
pub struct HostTable {
    /// The variables of an environment that are kept.
    names: Vec<String>,
    listing: Listing,
    known: HashMap<Pid, Known>,
    /// Listed, and not for us to read.
    hidden: HashSet<Pid>,
    soon: Vec<Listed>,
    turns: Turns,
    /// When the host was booted, by the clock of now, in milliseconds since 1970.
    booted: i64,
}

#[derive(Debug)]
struct Known {
    process: HostProcess,
    inode: u64,
    layout: [u64; 5],
    /// To be read as a whole at the next pass.
    unsettled: bool,
}

impl HostTable {
    /// An empty table that keeps these variables of environments; the first [`pass`](Self::pass) reads everything.
    pub fn new(names: &[&str]) -> HostTable {
        HostTable {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            listing: Listing::default(),
            known: HashMap::new(),
            hidden: HashSet::new(),
            soon: Vec::new(),
            turns: Turns::default(),
            booted: boot_time(),
        }
    }

    /// One pass. `matters` says of whom the present state counts. Who ends meanwhile is just not there.
    ///
    /// # Errors
    /// The list, or a process, could not be read: the table is not complete then.
    pub fn pass(&mut self, matters: impl Fn(&HostProcess) -> bool) -> Result<(), OsError> {
        let now = since_boot();
        let booted = boot_time();
        // The two clocks are not read in the same instant; a second is more than that.
        if booted.abs_diff(self.booted) > 1000 {
            let set_by = booted - self.booted;
            self.booted = booted;
            self.known.values_mut().for_each(|it| it.process.started_at.0 += set_by);
        }
        let changes = self.listing.pass()?;
        let mut went = HashSet::new();
        for (pid, inode) in changes.went {
            self.hidden.remove(&pid);
            if self.known.get(&pid).is_some_and(|known| known.inode == inode) {
                self.known.remove(&pid);
                went.insert(pid);
            }
        }
        for &listed in &changes.came {
            self.turns.push(listed, now);
            self.soon.push(listed);
        }
        let listing = &self.listing;
        for listed in self.turns.due(now, listing.len(), |(pid, inode)| listing.inode(pid) == Some(inode)) {
            self.turns.push(listed, now);
            self.soon.push(listed);
        }
        let mut fresh = self.read_those_of(now)?;
        let orphans: Vec<Pid> = self.below(&went);
        for pid in orphans {
            self.again(pid, now, &mut fresh)?;
        }
        let counts: Vec<Pid> = self.known.iter().filter(|(_, it)| matters(&it.process)).map(|(pid, _)| *pid).collect();
        for pid in self.kin(&counts) {
            self.again(pid, now, &mut fresh)?;
        }
        Ok(())
    }

    /// The processes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &HostProcess> {
        self.known.values().map(|known| &known.process)
    }

    /// What this table can not show, in words.
    pub fn unseen(&self) -> Option<String> {
        if Pid::new(1).is_some_and(|first| self.listing.inode(first).is_none()) {
            return Some("/proc does not list other users' processes (hidepid): run it as root to see them".into());
        }
        match self.hidden.len() {
            0 => None,
            count => Some(format!("{count} processes of other users may not be read (hidepid): run it as root")),
        }
    }

    /// Reads who is to be read as a whole; gives who that was.
    fn read_those_of(&mut self, now: Duration) -> Result<HashSet<Pid>, OsError> {
        let mut soon = std::mem::take(&mut self.soon);
        soon.sort_unstable();
        soon.dedup();
        let mut fresh = HashSet::new();
        while let Some((pid, inode)) = soon.pop() {
            if self.listing.inode(pid) != Some(inode) {
                continue;
            }
            if let Err(error) = self.read(pid, inode, now) {
                self.soon.append(&mut soon);
                self.soon.push((pid, inode));
                return Err(error);
            }
            fresh.insert(pid);
        }
        Ok(fresh)
    }

    /// Reads a process as a whole.
    fn read(&mut self, pid: Pid, inode: u64, now: Duration) -> Result<(), OsError> {
        let before = self.known.remove(&pid).filter(|known| known.inode == inode);
        let read = match Home::open(pid)? {
            Found::There(home) => self.whole(&home, pid, inode, before.as_ref())?,
            Found::Gone => Found::Gone,
            Found::Hidden => Found::Hidden,
        };
        match read {
            Found::There(known) => {
                if known.unsettled || now < age_at_start(&known.process) + YOUNG {
                    self.soon.push((pid, inode));
                }
                self.hidden.remove(&pid);
                self.known.insert(pid, known);
            }
            Found::Gone => {}
            Found::Hidden => drop(self.hidden.insert(pid)),
        }
        Ok(())
    }

    /// First `stat`, so that an exec while the rest is read shows as a change of addresses the next time.
    fn whole(&self, home: &Home, pid: Pid, inode: u64, before: Option<&Known>) -> Result<Found<Known>, OsError> {
        let stat = match home.stat()? {
            Found::There(stat) => stat,
            Found::Gone => return Ok(Found::Gone),
            Found::Hidden => return Ok(Found::Hidden),
        };
        let Found::There(status) = home.status()? else { return Ok(Found::Gone) };
        let Some(user) = status_number(&status, "Uid:") else { return Ok(Found::Gone) };
        let before = before.filter(|known| known.process.id.start == stat.start);
        // It has no memory of its own: it is ending, or the kernel's.
        let bare = stat.virtual_bytes == 0;
        let is_kernels = stat.flags & KERNEL_THREAD != 0;
        let (mut argv, mut exe) = (Vec::new(), None);
        let mut environment = Reading::Known(BTreeMap::new());
        let mut unsettled = false;
        if bare && !is_kernels {
            // What it was before holds until it is gone.
            environment = Reading::Unknown("it is ending".into());
            if let Some(before) = before.map(|known| &known.process) {
                (argv, exe) = (before.argv.clone(), before.exe.clone());
                environment = before.environment.clone();
            }
        } else if !bare {
            let Found::There(cmdline) = home.command_line(MAX_COMMAND)? else { return Ok(Found::Gone) };
            argv = words_in(&cmdline, MAX_COMMAND);
            exe = home.executable();
            (environment, unsettled) = match home.environment()? {
                // Its paths, and the pids that it writes down, are those of another world: a ledger of that name here may be
                // another one, and a pid in it another process.
                Found::There(_) if is_in_container(&status) => (
                    Reading::Unknown(
                        "it is in a pid namespace of its own, so what it names is not of this host".into(),
                    ),
                    false,
                ),
                Found::There(bytes) if bytes.is_empty() && !has_empty_environment(&stat) => {
                    let before = before.map(|known| known.process.environment.clone());
                    (before.unwrap_or_else(|| Reading::Unknown("it is in the middle of an exec".into())), true)
                }
                Found::There(bytes) => (Reading::Known(variables_in(&bytes, &self.names)), false),
                Found::Gone => (Reading::Unknown("it is ending".into()), true),
                Found::Hidden => (Reading::Unknown("its environment may not be read".into()), false),
            };
        }
        let layout = stat.layout;
        let mut process = HostProcess {
            id: ProcId { pid, start: stat.start },
            parent: None,
            group: None,
            session: None,
            has_terminal: false,
            user,
            state: stat.state,
            started_at: self.started_at(stat.start.0),
            name: String::new(),
            exe,
            argv,
            environment,
            rss_bytes: 0,
            pss_bytes: None,
        };
        take(&mut process, stat);
        Ok(Found::There(Known { process, inode, layout, unsettled }))
    }

    /// Reads the changing part of a process again, unless it was read in this pass; all of it if there was an exec.
    fn again(&mut self, pid: Pid, now: Duration, fresh: &mut HashSet<Pid>) -> Result<(), OsError> {
        if !fresh.insert(pid) {
            return Ok(());
        }
        let Some(known) = self.known.get_mut(&pid) else { return Ok(()) };
        match read_stat(pid)? {
            Found::There(stat) if stat.start == known.process.id.start => {
                let same = stat.layout == known.layout && stat.comm == known.process.name;
                if same || stat.virtual_bytes == 0 {
                    take(&mut known.process, stat);
                    return Ok(());
                }
                let inode = known.inode;
                self.read(pid, inode, now)
            }
            Found::There(_) | Found::Gone | Found::Hidden => {
                self.known.remove(&pid);
                Ok(())
            }
        }
    }

    /// Whose parent is one of these, as it was last read.
    fn below(&self, parents: &HashSet<Pid>) -> Vec<Pid> {
        let is_below = |known: &Known| known.process.parent.is_some_and(|parent| parents.contains(&parent));
        self.known.iter().filter(|(_, known)| is_below(known)).map(|(pid, _)| *pid).collect()
    }

    /// These, all below them, and all above them.
    fn kin(&self, of: &[Pid]) -> BTreeSet<Pid> {
        let mut children: HashMap<Pid, Vec<Pid>> = HashMap::new();
        for (pid, known) in &self.known {
            if let Some(parent) = known.process.parent {
                children.entry(parent).or_default().push(*pid);
            }
        }
        let mut kin = BTreeSet::new();
        let mut open = of.to_vec();
        while let Some(pid) = open.pop() {
            if kin.insert(pid) {
                open.extend(children.get(&pid).into_iter().flatten());
            }
        }
        for pid in of {
            let mut next = self.known.get(pid).and_then(|known| known.process.parent);
            while let Some(above) = next.filter(|above| kin.insert(*above)) {
                next = self.known.get(&above).and_then(|known| known.process.parent);
            }
        }
        kin
    }

    fn started_at(&self, ticks: u64) -> Time {
        let since_boot = ticks.saturating_mul(1000) / clock_ticks_per_second().max(1);
        Time(self.booted.saturating_add(i64::try_from(since_boot).unwrap_or(i64::MAX)))
    }
}

/// The part of a process that changes while it lives.
fn take(process: &mut HostProcess, stat: Stat) {
    process.parent = stat.parent;
    process.group = stat.group;
    process.session = stat.session;
    process.has_terminal = stat.has_terminal;
    process.state = stat.state;
    process.rss_bytes = stat.rss_pages * page_size();
    process.name = stat.comm;
}

/// Whether an environment of no bytes is one: between two programs of one process, it has no place yet.
fn has_empty_environment(stat: &Stat) -> bool {
    let [.., start, end] = stat.layout;
    start != 0 && start == end
}

/// Whether it has pids below those that `/proc` shows: it lives in a container, or another pid namespace of its own.
fn is_in_container(status: &[u8]) -> bool {
    let text = String::from_utf8_lossy(status);
    text.lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .is_some_and(|pids| pids.split_ascii_whitespace().count() > 1)
}

/// How long after the boot it started.
fn age_at_start(process: &HostProcess) -> Duration {
    Duration::from_millis(process.id.start.0.saturating_mul(1000) / clock_ticks_per_second().max(1))
}

/// When the host was booted, by the clock of now, in milliseconds since 1970.
fn boot_time() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    millis(now).saturating_sub(millis(since_boot()))
}

/// The proportional memory of a process, in bytes: pages that it shares are divided among those who have them. None: it has
/// ended, or that is not for us to read. Slow: the kernel walks over its whole memory.
pub fn proportional_bytes(id: ProcId) -> Option<u64> {
    let path = format!("/proc/{}/smaps_rollup", id.pid);
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            if !is_gone(&error) {
                tracing::trace!(process = %id, %error, "its proportional memory can not be read");
            }
            return None;
        }
    };
    let kilobytes: u64 =
        text.lines().find_map(|line| line.strip_prefix("Pss:")?.split_ascii_whitespace().next()?.parse().ok())?;
    // Whose memory that was: the one that was meant still has the pid.
    let Ok(Found::There(stat)) = read_stat(id.pid) else { return None };
    (stat.start == id.start).then_some(kilobytes * 1024)
}
