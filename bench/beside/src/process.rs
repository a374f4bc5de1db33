//! Programs that run for the benchmark, and what they use of the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The kernel's clock ticks a second, in which /proc counts CPU time (proc(5)).
const TICKS: u64 = 100;

/// A program that is told to stop, and waited for, when it is dropped.
pub struct Process {
    child: Child,
    signal: &'static str,
}

impl Process {
    /// Starts `command`, which stops on `signal`. Its output goes to `log`.
    pub fn start(command: &mut Command, signal: &'static str, log: &Path) -> Self {
        let log = fs::File::create(log).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, signal }
    }

    /// What the program and its descendants use.
    pub fn usage(&self) -> Usage {
        family(self.child.id()).into_iter().fold(Usage::default(), |sum, pid| {
            let usage = usage(pid).unwrap_or_default();
            Usage { memory: sum.memory + usage.memory, cpu: sum.cpu + usage.cpu }
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-s", self.signal, &pid]).status();
        let _ = self.child.wait();
    }
}

/// What processes use of the machine.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    /// Bytes of memory. A page that several processes share is divided by their number
    /// (PSS), so that it counts once for all of them.
    pub memory: u64,
    /// The CPU time since they started.
    pub cpu: Duration,
}

/// What this process uses.
pub fn own() -> Usage {
    usage(std::process::id()).unwrap_or_default()
}

fn usage(pid: u32) -> Option<Usage> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let rollup = fs::read_to_string(folder.join("smaps_rollup")).ok()?;
    let memory = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().strip_suffix(" kB")?;
    let stat = fields(pid)?;
    let ticks: u64 = stat.get(11..13)?.iter().map(|ticks| ticks.parse().unwrap_or(0)).sum();
    let cpu = Duration::from_millis(ticks * 1000 / TICKS);
    Some(Usage { memory: memory.parse::<u64>().ok()? * 1024, cpu })
}

/// The process, its children, their children and so on.
fn family(root: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap();
    let all = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let parents: Vec<(u32, u32)> = all.filter_map(|pid| Some((pid, fields(pid)?.get(1)?.parse().ok()?))).collect();
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(parents.iter().filter(|(_, its)| *its == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    family
}

/// The fields of /proc/PID/stat after the name, which may itself contain spaces.
fn fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}
