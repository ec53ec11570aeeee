//! What tells a process of a workload from any other: two variables in its environment. And how environments and command lines
//! are read.

use std::collections::BTreeMap;

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

/// The values of the variables of these names in an environment; of each the first, as `getenv` takes it.
pub(super) fn variables_in(environ: &[u8], names: &[String]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in environ.split(|byte| *byte == 0) {
        let Some(end) = entry.iter().position(|byte| *byte == b'=') else { continue };
        let Some(name) = names.iter().find(|name| name.as_bytes() == &entry[..end]) else { continue };
        if !found.contains_key(name) {
            found.insert(name.clone(), String::from_utf8_lossy(&entry[end + 1..]).into_owned());
        }
    }
    found
}

/// The words of a command line, each followed by a NUL byte, with what is no UTF-8 replaced. Of one that was cut after `most`
/// bytes, the word that the cut may have gone through is left out: half of a path names another file. A program that writes a
/// title over its arguments leaves NUL bytes behind it: they are no words.
pub(super) fn words_in(cmdline: &[u8], most: usize) -> Vec<String> {
    let mut line = cmdline;
    if line.len() >= most {
        line = line.iter().rposition(|byte| *byte == 0).map_or(&[], |end| &line[..end]);
    }
    let end = line.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if end == 0 {
        return Vec::new();
    }
    line[..end].split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_by_their_whole_name() {
        let names = ["A", "STEPWISE_DB"].map(str::to_owned);
        let environ = b"B=1\0A=x=y\0STEPWISE_DB=\0A=2\0STEPWISE_DBS=3\0=A\0A\0\xff=\xff\0";
        let found = variables_in(environ, &names);
        assert_eq!(found, BTreeMap::from([("A".into(), "x=y".into()), ("STEPWISE_DB".into(), String::new())]));
    }

    #[test]
    fn a_word_that_was_cut_is_no_word() {
        let cases: [(&[u8], usize, &[&str]); 6] = [
            (b"node\0--path\0/a/b\0", 100, &["node", "--path", "/a/b"]),
            (b"node\0--path\0/a/b\0", 16, &["node", "--path"]),
            (b"node\0\0x\0", 100, &["node", "", "x"]),
            (b"claude\0\0\0\0", 100, &["claude"]),
            (b"claude", 100, &["claude"]),
            (b"", 100, &[]),
        ];
        for (cmdline, most, words) in cases {
            assert_eq!(words_in(&cmdline[..cmdline.len().min(most)], most), words, "{cmdline:?}");
        }
    }

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
