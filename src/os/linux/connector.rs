//! The kernel's process connector (`linux/cn_proc.h`): it tells of every fork and every exit on the host, to root. Here it is a
//! bell and nothing else: which of the events ring is decided in the kernel, by a socket filter that names the processes of
//! ours, so that what happens on the rest of the host wakes nobody here.
//!
//! One that is lost costs latency. Where the connector is refused (an ordinary user, a container), pidfds and the regular
//! looks have to do.

use crate::model::Pid;
use crate::os::Heard;
use nix::libc::{self, sock_filter, sock_fprog};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with, sockopt,
};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use tokio::io::unix::AsyncFd;

/// The default one loses an eighth of all events in a fork storm when its reader stands still; this one none (measured).
const RECEIVE_BUFFER: usize = 16 << 20;
/// The filter names at most this many processes: each takes two instructions, and the kernel limits their memory.
const MOST_NAMED: usize = 1_000;

/// `CN_IDX_PROC`, `CN_VAL_PROC`: which connector, and the multicast group of the same number.
const PROC: u32 = 1;
const LISTEN: u32 = 1;
const IGNORE: u32 = 2;
const EVENT_FORK: u32 = 0x1;
const EVENT_EXIT: u32 = 0x8000_0000;
/// Where in a message things are: `nlmsghdr` (16), `cn_msg` (20), then `proc_event`: what, cpu, time, and the event itself,
/// which begins with the pid and thread group of who forked or ended.
const AT_EVENT: u32 = 36;
const AT_PID: u32 = AT_EVENT + 16;
const AT_GROUP: u32 = AT_PID + 4;
/// Of a fork, next: the new thread, and its group.
const AT_CHILD: u32 = AT_PID + 8;
const AT_CHILD_GROUP: u32 = AT_PID + 12;

/// A subscription, which ends when this is dropped.
#[derive(Debug)]
pub struct Connector {
    socket: AsyncFd<OwnedFd>,
}

impl Connector {
    /// Subscribes; nothing rings before [`hear`](Self::hear). To be called within a tokio runtime.
    ///
    /// # Errors
    /// The kernel has no connector, or it is not for us.
    pub fn open() -> io::Result<Connector> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(netlink::CONNECTOR),
        )?;
        // Before the first event can arrive.
        attach(&socket, &program(&Heard::default()))?;
        if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
        }
        bind(&socket, &SocketAddrNetlink::new(0, PROC))?;
        tell(&socket, LISTEN)?;
        // SAFETY: the descriptor is owned by the `AsyncFd`, so it stays open, and the same, for as long as it is registered.
        let socket = unsafe { AsyncFd::register(socket) }.map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Connector { socket })
    }

    /// Says whose events ring from now on.
    ///
    /// # Errors
    /// The kernel refuses the filter.
    pub fn hear(&self, heard: &Heard) -> io::Result<()> {
        attach(self.socket.get_ref(), &program(heard))
    }

    /// Completes when something has rung since the last call.
    ///
    /// # Errors
    /// The socket cannot be read any more.
    pub async fn rung(&self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let mut ready = self.socket.readable().await?;
            let mut any = false;
            loop {
                match recv(self.socket.get_ref(), &mut buffer[..], RecvFlags::DONTWAIT) {
                    // Overrun: what was lost may have been ours.
                    Ok(_) | Err(Errno::NOBUFS) => any = true,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break,
                    Err(errno) => return Err(errno.into()),
                }
            }
            ready.clear_ready();
            if any {
                return Ok(());
            }
        }
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        // Older kernels go on making events for nobody unless they are told.
        if let Err(error) = tell(self.socket.get_ref(), IGNORE) {
            tracing::debug!(%error, "the process connector was not told that nobody listens");
        }
    }
}

/// Sends `PROC_CN_MCAST_LISTEN` or `PROC_CN_MCAST_IGNORE`.
fn tell(socket: &OwnedFd, operation: u32) -> io::Result<()> {
    let mut message = Vec::with_capacity(40);
    let mut put = |number: u32| message.extend_from_slice(&number.to_ne_bytes());
    // nlmsghdr: length, type (NLMSG_DONE) and flags, sequence, port.
    put(40);
    put(u32::from_ne_bytes(pair(3, 0)));
    put(0);
    put(std::process::id());
    // cn_msg: which connector, sequence, acknowledgement, length and flags.
    put(PROC);
    put(PROC);
    put(0);
    put(0);
    put(u32::from_ne_bytes(pair(4, 0)));
    put(operation);
    // A full socket takes it a moment later.
    let mut wait = [PollFd::new(socket, PollFlags::OUT)];
    poll(&mut wait, Some(&Timespec { tv_sec: 1, tv_nsec: 0 }))?;
    sendto(socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    Ok(())
}

fn pair(first: u16, second: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    [a, b, c, d]
}

/// A classic BPF program that lets through what rings.
fn program(heard: &Heard) -> Vec<sock_filter> {
    let named = heard.ends.len() + heard.forks.len() <= MOST_NAMED;
    // An event is that of a process if the thread that it tells of is the first of its group: others come and go.
    let of_process = |thread, group| [load(thread), op(TAX, 0), load(group), jump(EQUALS_X, 0, 1, 0), op(RETURN, DROP)];
    let one_of = |pids: &BTreeSet<Pid>| -> Vec<sock_filter> {
        let each = |pid: &Pid| [jump(EQUALS, number(pid.get().unsigned_abs()), 0, 1), op(RETURN, PASS)];
        let mut chain: Vec<_> = if named { pids.iter().flat_map(each).collect() } else { Vec::new() };
        // Too many to name: then anybody's will do.
        chain.push(op(RETURN, if named || pids.is_empty() { DROP } else { PASS }));
        chain
    };
    let mut exits = of_process(AT_PID, AT_GROUP).to_vec();
    exits.extend(one_of(&heard.ends));
    let over_exits = u32::try_from(exits.len()).unwrap_or(0);
    let mut program = vec![load(AT_EVENT), jump(EQUALS, number(EVENT_EXIT), 1, 0), op(JUMP, over_exits)];
    program.extend(exits);
    program.extend([jump(EQUALS, number(EVENT_FORK), 1, 0), op(RETURN, DROP)]);
    program.extend(of_process(AT_CHILD, AT_CHILD_GROUP));
    program.push(load(AT_GROUP));
    program.extend(one_of(&heard.forks));
    program
}

/// Instructions: BPF_LD|BPF_W|BPF_ABS and so on (`linux/filter.h`).
const LOAD: u16 = 0x20;
const EQUALS: u16 = 0x15;
const EQUALS_X: u16 = 0x1d;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;
const TAX: u16 = 0x07;
/// What a program returns: how many bytes of the message are let through.
const DROP: u32 = 0;
const PASS: u32 = u32::MAX;

fn load(at: u32) -> sock_filter {
    op(LOAD, at)
}

fn op(code: u16, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

/// `yes` and `no`: how many instructions are passed over.
fn jump(code: u16, k: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { code, jt: yes, jf: no, k }
}

/// A number of a message, which is in this machine's order, as the filter loads it, which reads the network's.
fn number(value: u32) -> u32 {
    value.to_be()
}

fn attach(socket: &OwnedFd, program: &[sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let size = u32::try_from(size_of::<sock_fprog>()).map_err(io::Error::other)?;
    // SAFETY: `filter` and the program that it points to outlive the call; the kernel copies the program, and checks it.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const filter).cast(), size)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::id_of;
    use std::future::Future;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    async fn rings(connector: &Connector) -> bool {
        tokio::time::timeout(Duration::from_secs(10), connector.rung()).await.is_ok_and(|rung| rung.is_ok())
    }

    fn test<F: Future>(body: impl FnOnce(Connector) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            match Connector::open() {
                Ok(connector) => {
                    body(connector).await;
                }
                // Where it is allowed it must work.
                Err(error) => assert!(!rustix::process::geteuid().is_root(), "{error}"),
            }
        });
    }

    fn shell(script: &str) -> std::process::Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    /// Whether there are events for us at all: not in a pid namespace of our own.
    async fn is_heard(connector: &Connector) -> bool {
        let mut child = shell("read line");
        connector.hear(&Heard { ends: BTreeSet::from([id_of(&child).pid]), ..Heard::default() }).unwrap();
        drop(child.stdin.take());
        let heard = rings(connector).await;
        child.wait().unwrap();
        heard
    }

    #[test]
    fn the_end_of_a_process_of_ours_rings_and_that_of_another_does_not() {
        test(|connector| async move {
            assert!(is_heard(&connector).await);
            let (mut ours, mut other) = (shell("read line"), shell("read line"));
            connector.hear(&Heard { ends: BTreeSet::from([id_of(&ours).pid]), ..Heard::default() }).unwrap();
            drop(other.stdin.take());
            other.wait().unwrap();
            // Events come in order: had the other one rung, it would have been before now.
            let early = tokio::time::timeout(Duration::from_millis(100), connector.rung()).await;
            assert!(early.is_err(), "somebody else's end rang");
            drop(ours.stdin.take());
            assert!(rings(&connector).await);
            ours.wait().unwrap();
        });
    }

    #[test]
    fn a_fork_of_a_process_of_ours_rings() {
        test(|connector| async move {
            let mut ours = shell("read line; sleep 0 & wait; read line");
            let other = shell("sleep 0; read line");
            connector.hear(&Heard { forks: BTreeSet::from([id_of(&ours).pid]), ..Heard::default() }).unwrap();
            let early = tokio::time::timeout(Duration::from_millis(100), connector.rung()).await;
            assert!(early.is_err(), "somebody else's fork rang");
            use std::io::Write;
            ours.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
            assert!(rings(&connector).await);
            for mut child in [ours, other] {
                drop(child.stdin.take());
                child.wait().unwrap();
            }
        });
    }

    #[test]
    fn more_than_can_be_named_are_heard_all_the_same() {
        test(|connector| async move {
            let mut ours = shell("read line");
            let pids = |count: usize| (1..).filter_map(Pid::new).take(count).collect::<BTreeSet<Pid>>();
            connector.hear(&Heard { ends: pids(MOST_NAMED / 2), forks: pids(MOST_NAMED / 2) }).unwrap();
            let mut ends = pids(MOST_NAMED * 2);
            ends.insert(id_of(&ours).pid);
            connector.hear(&Heard { ends, ..Heard::default() }).unwrap();
            drop(ours.stdin.take());
            assert!(rings(&connector).await);
            ours.wait().unwrap();
        });
    }

    #[test]
    fn what_is_lost_because_nobody_read_rings_and_what_comes_after_is_heard() {
        test(|connector| async move {
            if !is_heard(&connector).await {
                return;
            }
            // The kernel makes the least of it that it allows.
            sockopt::set_socket_recv_buffer_size(connector.socket.get_ref(), 1).unwrap();
            let storm = || {
                let mut ours = shell("read line; i=0; while [ $i -lt 100 ]; do (:); i=$((i + 1)); done");
                connector.hear(&Heard { forks: BTreeSet::from([id_of(&ours).pid]), ..Heard::default() }).unwrap();
                drop(ours.stdin.take());
                ours.wait().unwrap();
            };
            storm();
            let lost = recv(connector.socket.get_ref(), &mut [0; 4096][..], RecvFlags::DONTWAIT);
            assert_eq!(lost.unwrap_err(), Errno::NOBUFS, "nothing was lost");
            storm();
            assert!(rings(&connector).await);
            assert!(is_heard(&connector).await);
        });
    }
}
