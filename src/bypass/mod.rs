//! Bypass detection: looks through the sockets of a program and its children, and says which of them go anywhere but to
//! this machine itself. Reads `/proc` and nothing else; writes no record.
//!
//! It sees what is there when it looks. A connection that lives for less than the time between two looks is missed, and
//! so is a datagram from a socket that was never connected: `docs/THREATS.md` says so, and confinement has neither gap.

mod table;

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// A connection that goes around the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// `TCP` or `UDP`.
    pub transport: &'static str,
    /// The other end.
    pub remote: SocketAddr,
    /// The program's name, as the kernel has it: at most 15 bytes.
    pub program: String,
    /// Its process number.
    pub process: u32,
}

/// Watches a process and its descendants, those too whose parents have ended.
#[derive(Debug)]
pub struct Watcher {
    proc: PathBuf,
    /// Who belongs to the program: the process number, and when that process began, for numbers are given again.
    processes: HashMap<u32, u64>,
    /// Sockets that were reported, by their inodes.
    reported: HashSet<u64>,
}

impl Watcher {
    /// Watches process `root`.
    pub fn new(root: u32) -> Self {
        Self::in_folder(root, Path::new("/proc"))
    }

    fn in_folder(root: u32, proc: &Path) -> Self {
        let mut watcher = Self { proc: proc.to_owned(), processes: HashMap::new(), reported: HashSet::new() };
        if let Some(began) = watcher.began(root) {
            watcher.processes.insert(root, began);
        }
        watcher
    }

    /// Looks once, and reports what has not been reported before. Costs a few system calls for each process, thread and
    /// descriptor of the program, and reading the machine's tables of sockets.
    pub fn look(&mut self) -> Vec<Sighting> {
        self.find_descendants();
        let mut owners: HashMap<u64, u32> = HashMap::new();
        let mut networks: HashMap<PathBuf, u32> = HashMap::new();
        for process in self.processes.keys() {
            let sockets = self.sockets_of(*process);
            if sockets.is_empty() {
                continue;
            }
            // A child may have a network of its own, such as a container's: its tables are others.
            if let Ok(network) = fs::read_link(self.path(*process, "ns/net")) {
                networks.entry(network).or_insert(*process);
            }
            owners.extend(sockets.into_iter().map(|inode| (inode, *process)));
        }
        let mut found = Vec::new();
        let mut present = HashSet::new();
        for process in networks.values() {
            for (file, transport) in TABLES {
                // A process that has just ended has no tables any more, and no sockets.
                let Ok(table) = fs::read(self.path(*process, file)) else { continue };
                for socket in table::sockets(&table) {
                    let Some(owner) = owners.get(&socket.inode) else { continue };
                    present.insert(socket.inode);
                    let stays_here = socket.remote.ip().to_canonical().is_loopback()
                        || socket.remote.ip().is_unspecified();
                    if stays_here
                        || self.reported.len() >= MOST_REPORTED
                        || !self.reported.insert(socket.inode)
                    {
                        continue;
                    }
                    let remote = SocketAddr::new(socket.remote.ip().to_canonical(), socket.remote.port());
                    found.push(Sighting {
                        transport,
                        remote,
                        program: self.name_of(*owner),
                        process: *owner,
                    });
                }
            }
        }
        // Inodes are given again; what is gone may come back as another socket.
        self.reported.retain(|inode| present.contains(inode));
        found
    }

    fn find_descendants(&mut self) {
        let known = std::mem::take(&mut self.processes);
        let mut waiting: Vec<u32> = known
            .into_iter()
            .filter(|(process, began)| self.began(*process) == Some(*began))
            .map(|(process, _)| process)
            .collect();
        while let Some(process) = waiting.pop() {
            let Some(began) = self.began(process) else { continue };
            if self.processes.insert(process, began).is_none() && self.processes.len() < MOST_PROCESSES {
                waiting.extend(self.children_of(process).unwrap_or_default());
            }
        }
    }

    /// When a process began, in ticks since the machine did.
    fn began(&self, process: u32) -> Option<u64> {
        let stat = fs::read_to_string(self.path(process, "stat")).ok()?;
        // The name stands in parentheses and may hold anything, parentheses too.
        stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
    }

    fn children_of(&self, process: u32) -> io::Result<Vec<u32>> {
        let mut children = Vec::new();
        for task in fs::read_dir(self.path(process, "task"))?.flatten() {
            let Ok(text) = fs::read_to_string(task.path().join("children")) else { continue };
            children.extend(text.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
        }
        Ok(children)
    }

    fn sockets_of(&self, process: u32) -> Vec<u64> {
        let Ok(descriptors) = fs::read_dir(self.path(process, "fd")) else { return Vec::new() };
        descriptors
            .flatten()
            .filter_map(|descriptor| {
                let target = fs::read_link(descriptor.path()).ok()?;
                target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
            })
            .collect()
    }

    fn name_of(&self, process: u32) -> String {
        let name = fs::read(self.path(process, "comm")).unwrap_or_default();
        String::from_utf8_lossy(name.trim_ascii_end()).into_owned()
    }

    fn path(&self, process: u32, file: &str) -> PathBuf {
        self.proc.join(process.to_string()).join(file)
    }
}

/// Whether this system can be watched: its kernel names the children of a process.
pub fn can_watch() -> bool {
    let own = std::process::id();
    Path::new("/proc").join(own.to_string()).join("task").join(own.to_string()).join("children").exists()
}

const TABLES: &[(&str, &str)] =
    &[("net/tcp", "TCP"), ("net/tcp6", "TCP"), ("net/udp", "UDP"), ("net/udp6", "UDP")];
/// Processes of one program. A build has hundreds.
const MOST_PROCESSES: usize = 10_000;
/// Sockets that are open at one time and go around us. Thousands of records say no more than one thousand.
const MOST_REPORTED: usize = 1_000;

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
