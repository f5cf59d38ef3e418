//! What a process has cost so far: CPU time, context switches, memory; and where it may run.

use rustix::process::{Pid, Resource, Rlimit, Signal};
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Counters of one process, all threads together, since its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time in nanoseconds, including softirq work done in its name and threads that have ended.
    pub cpu_ns: u64,
    /// Context switches because it waited (living threads only).
    pub voluntary_switches: u64,
    /// Context switches because another ran (living threads only).
    pub involuntary_switches: u64,
}

impl Usage {
    /// Reads the counters of `pid`.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of(pid: u32) -> io::Result<Self> {
        let mut usage = Self {
            cpu_ns: cpu_ns(pid)?,
            ..Self::default()
        };
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end between the listing and the reading.
            let Ok(status) = fs::read_to_string(task?.path().join("status")) else {
                continue;
            };
            usage.voluntary_switches += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            usage.involuntary_switches +=
                field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
        Ok(usage)
    }
}

/// CPU time of a process in nanoseconds. The process clock is exact at the moment of reading; `/proc/PID/stat` has
/// ticks of 10 ms, and `schedstat` lags by up to a tick for a thread that is running.
///
/// # Errors
/// When the process is gone.
pub fn cpu_ns(pid: u32) -> io::Result<u64> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is a valid place for the id that the call writes; any pid is accepted.
    let code = unsafe { libc::clock_getcpuclockid(pid, &mut clock) };
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code));
    }
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the time that the call writes; a stale clock id is an error, not undefined.
    let code = unsafe { libc::clock_gettime(clock, &mut time) };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Resident bytes of a process. `smaps_rollup` is exact, where `statm` may lag by a batch per core.
///
/// # Errors
/// When the process is gone.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kib = field(&rollup, "Rss:").ok_or(io::ErrorKind::InvalidData)?;
    Ok(kib * 1024)
}

/// Open descriptors of a process.
///
/// # Errors
/// When the process is gone.
pub fn descriptors(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// SYNs that this machine has had to send again since boot.
///
/// # Errors
/// When `/proc/net/netstat` cannot be read or has no such column.
pub fn syn_retransmits() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/net/netstat")?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    names
        .split_whitespace()
        .zip(values.split_whitespace())
        .find(|(name, _)| *name == "TCPSynRetrans")
        .and_then(|(_, value)| value.parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// CPU time that was spent by anybody on this machine and by this process with its ended children, in ticks of 10 ms:
/// what the second lacks of the first was spent by others.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn ticks_of_all_and_own() -> io::Result<(u64, u64)> {
    let all = fs::read_to_string("/proc/stat")?;
    let fields: Vec<u64> = all
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .map_while(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal; guest time is contained in user.
    let &[user, nice, system, _, _, irq, softirq, steal, ..] = fields.as_slice() else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let own = fs::read_to_string("/proc/self/stat")?;
    // The name may hold anything, so fields are counted from the parenthesis that ends it: utime is the twelfth.
    let (_, own) = own.rsplit_once(')').ok_or(io::ErrorKind::InvalidData)?;
    let own = own
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok((user + nice + system + irq + softirq + steal, own))
}

/// Lets the calling thread, and what it starts from now on, run on these cores alone.
///
/// # Errors
/// When none of them exists.
pub fn pin(cores: &[usize]) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    Ok(rustix::thread::sched_setaffinity(None::<Pid>, &set)?)
}

/// Lets what `command` starts end with the thread that starts it, however that ends: a server whose harness was killed
/// would hold its core, and its port, until somebody finds it.
pub fn ends_with_this_thread(command: &mut Command) -> &mut Command {
    let parent = rustix::process::getpid();
    let ask = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // Who was left alone before asking would wait for ever.
        match rustix::process::getppid() {
            Some(now) if now == parent => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    };
    // SAFETY: between fork and exec the closure makes two system calls and neither allocates nor locks.
    unsafe { command.pre_exec(ask) }
}

/// Raises the limit on open descriptors as far as it goes and says how far that is.
pub fn raise_descriptor_limit() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
    .unwrap_or(u64::MAX)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_used_cpu_and_memory() {
        let me = std::process::id();
        let before = Usage::of(me).expect("own counters");
        let mut sum = 0u64;
        while cpu_ns(me).expect("own clock") < before.cpu_ns + 1_000_000 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(resident_bytes(me).expect("own memory") > 100_000);
        assert!(descriptors(me).expect("own descriptors") >= 3);
        assert!(syn_retransmits().is_ok());
        let (all, own) = ticks_of_all_and_own().expect("ticks");
        assert!(all >= own);
    }

    #[test]
    fn fields_are_read_by_their_whole_name() {
        let status = "nonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t5\n";
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(5));
        assert_eq!(field(status, "nonvoluntary_ctxt_switches:"), Some(7));
        assert_eq!(field(status, "Rss:"), None);
    }
}
