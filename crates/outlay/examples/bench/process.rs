//! What processes have used, from Linux's `/proc`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Ticks per second of the times in `/proc/PID/stat`: `USER_HZ`, 100 on every Linux platform that Rust supports.
const TICKS_PER_S: u64 = 100;

/// What counting some events took.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    /// CPU time of the process and its children.
    pub cpu: Duration,
    /// Time on the clock.
    pub wall: Duration,
    /// How many events.
    pub events: u64,
}

impl Spent {
    /// Events per CPU-second.
    pub fn per_cpu_second(&self) -> f64 {
        self.events as f64 / self.cpu.as_secs_f64()
    }
}

/// User and system time of a process, of its children that ended, and of those that live.
pub fn cpu_of_tree(pid: u32) -> Result<Duration> {
    let mut ticks = 0;
    let mut pids = vec![pid];
    while let Some(pid) = pids.pop() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
        // utime, stime, cutime, cstime: proc_pid_stat(5), fields 14 to 17.
        ticks += fields(&stat).skip(11).take(4).sum::<u64>();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        pids.extend(all_children(pid, &children));
    }
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_S))
}

/// Children are listed by the thread that started them.
fn all_children(pid: u32, of_first: &str) -> Vec<u32> {
    let mut texts = vec![of_first.to_owned()];
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        if task.file_name() != *pid.to_string() {
            texts.extend(fs::read_to_string(task.path().join("children")));
        }
    }
    texts.iter().flat_map(|text| text.split_whitespace()).filter_map(|pid| pid.parse().ok()).collect()
}

/// The fields behind the name, which may hold spaces; the first is the state.
fn fields(stat: &str) -> impl Iterator<Item = u64> {
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().map(|field| field.parse().unwrap_or(0))
}

/// CPU-seconds of the threads of a process, summed by name, most first.
pub fn cpu_by_thread(pid: u32) -> Result<String> {
    let mut by_name = std::collections::BTreeMap::<String, u64>::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(stat) = fs::read_to_string(task?.path().join("stat")) else { continue };
        let name = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).map_or("?", |(name, _)| name);
        *by_name.entry(name.to_owned()).or_default() += fields(&stat).skip(11).take(2).sum::<u64>();
    }
    let mut names: Vec<_> = by_name.into_iter().filter(|(_, ticks)| *ticks > 0).collect();
    names.sort_by_key(|(_, ticks)| std::cmp::Reverse(*ticks));
    Ok(names
        .iter()
        .map(|(name, ticks)| format!("{name} {:.2}", *ticks as f64 / TICKS_PER_S as f64))
        .collect::<Vec<_>>()
        .join(", "))
}

/// The most memory that a process ever had resident, in MiB.
pub fn peak_mib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc/PID/status")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024)
}

/// How busy the machine is with everything, as the kernel's average over a minute: figures taken on a busy one are worse.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}
