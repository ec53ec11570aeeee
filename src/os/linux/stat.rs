//! `/proc/PID/stat`, parsed.

use crate::model::{Pid, StartTime};

/// What this program uses of `/proc/PID/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) pid: i32,
    /// The name, without its parentheses.
    pub(super) comm: String,
    pub(super) state: char,
    pub(super) parent: Option<Pid>,
    /// None: it is one of another pid namespace.
    pub(super) group: Option<Pid>,
    pub(super) session: Option<Pid>,
    /// Whether it has a controlling terminal.
    pub(super) has_terminal: bool,
    /// Processor time of it and of its threads, in clock ticks.
    pub(super) ticks: u64,
    /// The kernel's flags of the process.
    pub(super) flags: u64,
    pub(super) start: StartTime,
    /// Zero: it has no memory of its own (any more): a kernel thread, or one that is ending.
    pub(super) virtual_bytes: u64,
    pub(super) rss_pages: u64,
    /// Where its stack, arguments, and environment lie. The addresses are drawn anew on each `exec`, which nothing else in
    /// this file shows: neither pid nor start time change. Zeros when we may not see them.
    pub(super) layout: [u64; 5],
}

impl Stat {
    /// `None`: this is not what the kernel writes.
    pub(super) fn parse(bytes: &[u8]) -> Option<Stat> {
        // The name may hold spaces and parentheses, and nothing after it does: split at the first `(` and the last `)`.
        let open = bytes.iter().position(|byte| *byte == b'(')?;
        let close = bytes.iter().rposition(|byte| *byte == b')')?;
        let comm = String::from_utf8_lossy(bytes.get(open + 1..close)?).into_owned();
        let pid = std::str::from_utf8(&bytes[..open]).ok()?.trim().parse().ok()?;
        let rest = std::str::from_utf8(&bytes[close + 1..]).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Numbered from 1 as in proc_pid_stat(5); the state is number 3.
        let number = |nth: usize| fields.get(nth - 3)?.parse::<u64>().ok();
        let mut state = fields.first()?.chars().next()?;
        // The first thread of a process may end before the others do. That process is alive.
        if state == 'Z' && number(20)? > 1 {
            state = 'S';
        }
        Some(Stat {
            pid,
            comm,
            state,
            parent: fields.get(1)?.parse().ok().and_then(Pid::new),
            group: fields.get(2)?.parse().ok().and_then(Pid::new),
            session: fields.get(3)?.parse().ok().and_then(Pid::new),
            // A device number, which may be printed as a negative one; 0: none.
            has_terminal: *fields.get(4)? != "0",
            ticks: number(14).unwrap_or(0).saturating_add(number(15).unwrap_or(0)),
            flags: number(9).unwrap_or(0),
            start: StartTime(number(22)?),
            virtual_bytes: number(23)?,
            rss_pages: number(24).unwrap_or(0),
            layout: [28, 48, 49, 50, 51].map(|nth| number(nth).unwrap_or(0)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = "1 77 76 0 -1 4194560 1 0 0 0 4 3 0 0 20 0 THREADS 0 4711 8192000 250 18446744073709551615 1 2 9 0 0 \
                        0 0 0 0 0 0 0 17 2 0 0 0 0 0 0 0 0 11 12 13 14 0\n";

    fn line(comm: &str, state: char, threads: u32) -> Vec<u8> {
        format!("77 ({comm}) {state} {}", TAIL.replace("THREADS", &threads.to_string())).into_bytes()
    }

    #[test]
    fn any_name_that_a_process_can_give_itself_is_parsed() {
        for comm in ["sh", "a) (b 1 2", ")", "(", "", " ", ") Z 1 1", "x\ny", "a b) R 5"] {
            let stat = Stat::parse(&line(comm, 'S', 1)).unwrap_or_else(|| panic!("{comm:?} is not parsed"));
            assert_eq!((stat.pid, stat.comm.as_str(), stat.state), (77, comm, 'S'));
            assert_eq!((stat.parent, stat.start), (Pid::new(1), StartTime(4711)));
            assert_eq!((stat.group, stat.session, stat.has_terminal), (Pid::new(77), Pid::new(76), false));
            assert_eq!((stat.virtual_bytes, stat.rss_pages), (8_192_000, 250));
            assert_eq!((stat.flags, stat.layout, stat.ticks), (4_194_560, [9, 11, 12, 13, 14], 7));
        }
        let not_utf8 = Stat::parse(&[b"77 (", &b"\xff) \xfe"[..], b") S ", TAIL.as_bytes()].concat()).unwrap();
        assert_eq!((not_utf8.comm.as_str(), not_utf8.start), ("\u{fffd}) \u{fffd}", StartTime(4711)));
    }

    #[test]
    fn a_controlling_terminal_is_a_number_of_any_sign() {
        for (number, has) in [("0", false), ("34816", true), ("-2013200384", true)] {
            let tail = TAIL.replace("THREADS", "1").replacen(" 0 -1 ", &format!(" {number} -1 "), 1);
            let stat = Stat::parse(format!("77 (x) S {tail}").as_bytes()).unwrap();
            assert_eq!(stat.has_terminal, has, "{number}");
        }
    }

    #[test]
    fn a_process_whose_first_thread_ended_is_alive() {
        assert_eq!(Stat::parse(&line("x", 'Z', 1)).unwrap().state, 'Z');
        assert_eq!(Stat::parse(&line("x", 'Z', 2)).unwrap().state, 'S');
    }

    #[test]
    fn what_is_torn_is_refused() {
        for torn in ["", "77", "77 (x", "77 (x) ", "77 (x) S 1 2", "x) 77 (", "(x) S 1"] {
            assert_eq!(Stat::parse(torn.as_bytes()), None, "{torn:?}");
        }
    }
}
