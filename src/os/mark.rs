//! What tells a process of a workload from any other: two variables in its environment.

/// The environment variable that every process of a workload inherits: `<instance>/<workload uid>`.
pub const MARK: &str = "TENURE_WORKLOAD";

/// The environment variable that tells a workload's processes where its run directory is.
pub const RUN_DIR: &str = "TENURE_RUN_DIR";

/// The value of [`MARK`] in an environment (`NAME=value`, each followed by a NUL byte); the first, as `getenv` takes it.
pub(super) fn mark_in(environ: &[u8]) -> Option<String> {
    environ.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(MARK.as_bytes())?.strip_prefix(b"=")?;
        String::from_utf8(value.to_vec()).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_names_a_workload_in_one_variable_only() {
        for (environ, mark) in [
            (&b"A=1\0TENURE_WORKLOAD=i/w\0B=2\0"[..], Some("i/w")),
            (b"A=1\0\0TENURE_WORKLOAD=i/w\0", Some("i/w")),
            (b"TENURE_WORKLOAD=i/w\0TENURE_WORKLOAD=i/x\0", Some("i/w")),
            (b"XTENURE_WORKLOAD=i/w\0A=TENURE_WORKLOAD=i/w\0", None),
            (b"TENURE_WORKLOADS=i/w\0TENURE_WORKLOAD\0", None),
            (b"TENURE_WORKLOAD=\xff\0", None),
            (b"", None),
        ] {
            assert_eq!(mark_in(environ).as_deref(), mark);
        }
    }
}
