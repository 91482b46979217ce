//! Whether the machine, and what is allowed of it, carries a number of appliances.
use super::usage::Machine;
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};

/// What an appliance may need at its start, with its share of the kernel's tables; twice what is usual.
const EACH_BYTES: u64 = 6 << 20;
/// What is left to others.
const KEPT_BYTES: u64 = 512 << 20;

/// Threads of an appliance: supervisor, user network, guest, disk.
const EACH_THREADS: u64 = 4;

/// Ports, and whatever else this process has open.
const KEPT_FILES: u64 = 64;

/// A limit, what it is called, and how to raise it.
struct Limit {
    name: &'static str,
    remedy: &'static str,
    /// Most that can be had now; `None` for any number.
    left: Option<u64>,
    wanted: u64,
}

/// Why `count` appliances do not fit; `None` if they do.
pub(super) fn lack(count: u32) -> Result<Option<String>> {
    let count = u64::from(count);
    let threads = count * EACH_THREADS;
    let bytes = count * EACH_BYTES + KEPT_BYTES;
    let mib = |bytes: u64| bytes >> 20;
    let limits = [
        Limit {
            name: "MiB of memory",
            remedy: "end other programs",
            left: Some(mib(Machine::now()?.available_bytes)),
            wanted: mib(bytes),
        },
        Limit {
            name: "MiB of memory in this control group",
            remedy: "raise memory.max",
            left: cgroup("memory").and_then(|group| group.max_memory()).map(mib),
            wanted: mib(bytes),
        },
        Limit {
            name: "threads in this control group",
            remedy: "raise pids.max",
            left: cgroup("pids").and_then(|group| group.threads_left()),
            wanted: threads,
        },
        Limit {
            name: "threads of this user",
            remedy: "ulimit -u",
            left: soft_limit(libc::RLIMIT_NPROC),
            wanted: threads,
        },
        Limit {
            name: "numbers of processes",
            remedy: "sysctl kernel.pid_max, kernel.threads-max",
            left: ["pid_max", "threads-max"]
                .iter()
                .filter_map(|file| number(Path::new(&format!("/proc/sys/kernel/{file}"))))
                .min(),
            wanted: threads,
        },
        Limit {
            name: "open files",
            remedy: "ulimit -n",
            left: soft_limit(libc::RLIMIT_NOFILE),
            wanted: count + KEPT_FILES,
        },
    ];
    Ok(limits.iter().find_map(Limit::complaint))
}

impl Limit {
    fn complaint(&self) -> Option<String> {
        let Self { name, remedy, wanted, .. } = self;
        let left = self.left.filter(|left| left < wanted)?;
        Some(format!("they want {wanted} {name}, and there are {left} ({remedy})"))
    }
}

fn soft_limit(which: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the result goes to a variable here.
    let done = unsafe { libc::getrlimit(which, &raw mut limit) };
    (done == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// The files of a controller of this process's control group.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    folder: PathBuf,
    is_version_2: bool,
}

impl Group {
    /// Most memory of the group. What it uses now is for the greatest part the kernel's cache.
    fn max_memory(&self) -> Option<u64> {
        let file = if self.is_version_2 { "memory.max" } else { "memory.limit_in_bytes" };
        number(&self.folder.join(file))
    }

    fn threads_left(&self) -> Option<u64> {
        let [max, current] =
            ["pids.max", "pids.current"].map(|file| number(&self.folder.join(file)));
        Some(max?.saturating_sub(current?))
    }

    /// From a line of `/proc/self/cgroup` (cgroups(7)).
    fn parse(line: &str, controller: &str) -> Option<Self> {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        let is_version_2 = controllers.is_empty();
        let top = PathBuf::from("/sys/fs/cgroup");
        let top = if is_version_2 { top } else { top.join(controller) };
        let group = Self { folder: top.join(path), is_version_2 };
        (is_version_2 || controllers.split(',').any(|name| name == controller)).then_some(group)
    }
}

/// The group of version 1 that has the controller, or the one of version 2.
fn cgroup(controller: &str) -> Option<Group> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut groups: Vec<_> =
        groups.lines().filter_map(|line| Group::parse(line, controller)).collect();
    groups.sort_by_key(|group| group.is_version_2);
    groups.into_iter().next()
}

/// The number in a file; `None` if there is none, as in `max`.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fits_and_a_billion_do_not() {
        assert_eq!(lack(1).unwrap(), None);
        let complaint = lack(1_000_000_000).unwrap().unwrap();
        let words = "they want 6000000512 MiB of memory, and there are";
        assert!(complaint.starts_with(words), "{complaint}");
    }

    #[test]
    fn control_groups_are_found() {
        let group =
            |folder: &str, is_version_2| Some(Group { folder: folder.into(), is_version_2 });
        let pids = group("/sys/fs/cgroup/pids/a/b", false);
        assert_eq!(Group::parse("8:pids:/a/b", "pids"), pids);
        assert_eq!(Group::parse("0::/a", "pids"), group("/sys/fs/cgroup/a", true));
        assert_eq!(Group::parse("8:cpu,cpuacct:/a", "pids"), None);
    }

    #[test]
    fn a_limit_names_itself_and_what_to_do() {
        let limit = |left| Limit { name: "open files", remedy: "ulimit -n", left, wanted: 2 };
        let complaint = "they want 2 open files, and there are 1 (ulimit -n)";
        assert_eq!(limit(Some(1)).complaint().as_deref(), Some(complaint));
        assert!(limit(Some(2)).complaint().is_none() && limit(None).complaint().is_none());
    }
}
