//! A start: run directory, spec, cgroup, shim. The row was committed before; doing it twice is doing it once.

use super::Host;
use crate::act::ActError;
use crate::model::{EnvValue, Workload, WorkloadType};
use crate::shim::files::{self, SpecFile};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a shim may take to report; on a busy host a start takes seconds, not milliseconds.
const REPORT_TIMEOUT: Duration = Duration::from_secs(20);

/// Starts the shim of a workload and waits for its report.
pub(super) fn start(host: &Host, workload: &Workload) -> Result<(), ActError> {
    let uid = workload.uid();
    let dir = host.state_dir.workload(&uid);
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(file("create", &dir))?;
    for (name, content) in &workload.spec.files {
        let path = dir.join(name);
        fs::write(&path, content).map_err(file("write", &path))?;
    }
    let spec = spec_of(host, workload)?;
    files::write_spec(&dir, &spec).map_err(|error| ActError::File {
        doing: "write",
        path: dir.join("spec.json"),
        source: std::io::Error::other(error),
    })?;
    let mark = format!("{}/{uid}", host.instance);
    let report = crate::os::spawn_shim(&host.exe, &dir, &mark).map_err(file("start the shim of", &dir))?;
    await_report(&dir, report.as_fd())
}

fn spec_of(host: &Host, workload: &Workload) -> Result<SpecFile, ActError> {
    let uid = workload.uid();
    let cgroup = match &host.cgroups {
        Some(cgroups) => Some(cgroups.create(&uid, workload.spec.memory_max_bytes)?),
        None => None,
    };
    let cwd = PathBuf::from(&workload.spec.cwd);
    fs::create_dir_all(&cwd).map_err(file("create the working directory", &cwd))?;
    Ok(SpecFile {
        version: files::FORMAT,
        instance: host.instance.clone(),
        uid: uid.clone(),
        command: workload.spec.command.clone(),
        env: resolve(&workload.spec.env)?,
        cwd,
        stdin: workload.spec.r#type == WorkloadType::Adapter,
        cgroup,
        lock_file: host.state_dir.lock_file(),
        lease_ms: u64::try_from(host.policy().lease.as_millis()).unwrap_or(u64::MAX),
        grace_ms: u64::try_from(workload.spec.grace_period.0.as_millis()).unwrap_or(u64::MAX),
        log_dir: host.state_dir.log(&uid),
        protect: host.policy().never.patterns(),
    })
}

/// The environment's values now; secrets stay out of the store.
fn resolve(env: &BTreeMap<String, EnvValue>) -> Result<BTreeMap<String, String>, ActError> {
    let value = |name: &String, value: &EnvValue| match value {
        EnvValue::Literal(text) => Ok(text.clone()),
        EnvValue::FromEnv { from_env } => std::env::var(from_env)
            .map_err(|error| ActError::Env { name: name.clone(), why: format!("{from_env}: {error}") }),
        EnvValue::FromFile { from_file } => fs::read_to_string(from_file)
            .map(|text| text.strip_suffix('\n').unwrap_or(&text).to_owned())
            .map_err(|error| ActError::Env { name: name.clone(), why: format!("{from_file}: {error}") }),
    };
    env.iter().map(|(name, from)| Ok((name.clone(), value(name, from)?))).collect()
}

/// Waits until the shim has said what it started. Without that, the next look could not tell a start under way from a lost
/// one. `report` ends when it has; where another shim was there already, only the files tell.
fn await_report(dir: &Path, report: BorrowedFd<'_>) -> Result<(), ActError> {
    let begun = Instant::now();
    let timeout = PollTimeout::try_from(REPORT_TIMEOUT).unwrap_or(PollTimeout::MAX);
    // Woken by a signal, not able to wait, or waited in vain: the files are looked at all the same.
    let _ = poll(&mut [PollFd::new(report, PollFlags::POLLIN)], timeout);
    let mut pause = Duration::from_millis(1);
    while !(dir.join("shim.json").exists() || dir.join("exit.json").exists() || !dir.exists()) {
        if begun.elapsed() >= REPORT_TIMEOUT {
            return Err(ActError::ShimSilent(REPORT_TIMEOUT, dir.join("shim.log")));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    Ok(())
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ActError {
    let path = path.to_owned();
    move |source| ActError::File { doing, path, source }
}
