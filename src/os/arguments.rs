//! What macOS and FreeBSD tell of a process's arguments and environment, taken apart. Bytes to values: tested on every system.

/// Command line and environment of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arguments {
    /// The words, each followed by a NUL byte.
    pub(super) command: Vec<u8>,
    /// `NAME=value`, each followed by a NUL byte; none: it may not be read.
    pub(super) environ: Option<Vec<u8>>,
}

impl Arguments {
    /// Of what macOS's `KERN_PROCARGS2` gives: the number of words as an `int`, the path of the program, NUL bytes up to an aligned
    /// address, the words, the environment, and strings of the kernel's own. Where an environment ends and these begin is not
    /// told; so they are taken as a part of it. `None`: it is cut short, as of a process that is ending.
    #[cfg(any(target_os = "macos", test))]
    pub(super) fn parse_procargs2(buffer: &[u8]) -> Option<Arguments> {
        let (count, rest) = buffer.split_first_chunk()?;
        let count = usize::try_from(i32::from_ne_bytes(*count)).ok()?;
        let path = rest.iter().position(|byte| *byte == 0)?;
        let padding = rest.get(path..)?.iter().position(|byte| *byte != 0).unwrap_or(rest.len() - path);
        let strings = rest.get(path + padding..)?;
        let mut end = 0;
        for _ in 0..count {
            end += strings.get(end..)?.iter().position(|byte| *byte == 0)? + 1;
        }
        let (command, environ) = strings.split_at_checked(end)?;
        Some(Arguments { command: command.to_vec(), environ: Some(environ.to_vec()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(count: i32, rest: &[u8]) -> Vec<u8> {
        [&count.to_ne_bytes(), rest].concat()
    }

    fn parsed(count: i32, rest: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let arguments = Arguments::parse_procargs2(&buffer(count, rest))?;
        Some((arguments.command, arguments.environ.unwrap()))
    }

    #[test]
    fn words_and_environment_are_told_apart() {
        for (count, rest, command, environ) in [
            (2, &b"/bin/sh\0\0\0\0sh\0-c\0A=1\0B=2\0"[..], &b"sh\0-c\0"[..], &b"A=1\0B=2\0"[..]),
            (1, b"/bin/sh\0sh\0A=1\0\0ptr_munge=\0", b"sh\0", b"A=1\0\0ptr_munge=\0"),
            // An empty word is a word; only the first can not be one, as it is lost in the padding.
            (3, b"/x\0\0\0x\0\0y\0A=1\0", b"x\0\0y\0", b"A=1\0"),
            (0, b"/x\0\0\0A=1\0", b"", b"A=1\0"),
            (1, b"/x\0x\0", b"x\0", b""),
            (1, b"/x\0\xff\xfe\0\xff=\xfe\0", b"\xff\xfe\0", b"\xff=\xfe\0"),
            (0, b"/x\0", b"", b""),
            (0, b"\0\0\0", b"", b""),
        ] {
            assert_eq!(parsed(count, rest), Some((command.to_vec(), environ.to_vec())), "{count} {rest:?}");
        }
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let whole = buffer(2, b"/bin/sh\0\0\0sh\0-c\0");
        assert!(Arguments::parse_procargs2(&whole).is_some());
        for length in 0..whole.len() {
            assert_eq!(Arguments::parse_procargs2(&whole[..length]), None, "{length} bytes");
        }
        for count in [-1, i32::MIN, 3, i32::MAX] {
            assert_eq!(parsed(count, b"/bin/sh\0\0\0sh\0-c\0"), None, "{count} words");
        }
    }
}
