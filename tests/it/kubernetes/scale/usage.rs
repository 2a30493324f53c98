//! What a process uses, by the kernel's account.

use std::fs;
use std::time::Instant;

/// At one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    at: Instant,
    /// Seconds of CPU so far.
    pub(super) cpu_s: f64,
    /// Resident, and the most that ever was, in MB.
    pub(super) resident_mb: f64,
    pub(super) peak_mb: f64,
    pub(super) threads: u32,
    /// Open files, and those of them that are connections to this port.
    pub(super) files: usize,
    pub(super) connections: usize,
}

impl Usage {
    /// Of this process now; connections to this port are counted.
    pub(super) fn of(pid: u32, port: u16) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("{key} in {status}"));
            line.split_whitespace().next().expect("a number").parse::<u32>().expect("a number")
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let after_name: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
        let ticks = |n: usize| after_name[n].parse::<f64>().expect("a number");
        let links: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("ours")
            .flatten()
            .filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string()))
            .collect();
        Self {
            at: Instant::now(),
            // in hundredths, whatever the kernel's own clock
            cpu_s: (ticks(11) + ticks(12)) / 100.0,
            resident_mb: f64::from(number("VmRSS:")) / 1024.0,
            peak_mb: f64::from(number("VmHWM:")) / 1024.0,
            threads: number("Threads:"),
            connections: sockets_to(port).iter().filter(|inode| links.contains(&format!("socket:[{inode}]"))).count(),
            files: links.len(),
        }
    }

    /// Seconds of CPU since then.
    pub(super) fn cpu_since(&self, before: &Self) -> f64 {
        self.cpu_s - before.cpu_s
    }

    /// The same, as percent of a core.
    pub(super) fn load_since(&self, before: &Self) -> f64 {
        100.0 * self.cpu_since(before) / self.at.duration_since(before.at).as_secs_f64()
    }
}

/// Inodes of established connections to a port of 127.0.0.1.
fn sockets_to(port: u16) -> Vec<String> {
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux");
    let there = format!("0100007F:{port:04X}");
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let established = rows.filter(|row| row.get(2) == Some(&there.as_str()) && row.get(3) == Some(&"01"));
    established.filter_map(|row| row.get(9).map(|inode| (*inode).to_owned())).collect()
}
