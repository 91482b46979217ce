//! Under which conditions the figures were taken.
use crate::host::QEMU;
use std::process::Command;

/// Name and value of every condition that bears on the figures.
pub(crate) fn collect(quick: bool) -> Vec<(&'static str, String)> {
    let length = if quick { "quick: shows that it works, not how fast" } else { "full" };
    vec![
        ("session", length.into()),
        ("commit", output("git", &["describe", "--always", "--dirty"])),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("cpu", cpu_model()),
        ("cpus", std::thread::available_parallelism().map_or(0, usize::from).to_string()),
        ("huge pages", read("/sys/kernel/mm/transparent_hugepage/enabled")),
        ("default congestion control", read("/proc/sys/net/ipv4/tcp_congestion_control")),
        ("rustc", output("rustc", &["--version"])),
        ("qemu", output(QEMU, &["--version"])),
        ("nginx", output("nginx", &["-v"])),
        ("wrk", output("wrk", &["-v"])),
        (
            "kvm",
            if std::fs::exists("/dev/kvm").unwrap_or(false) { "yes" } else { "no /dev/kvm" }.into(),
        ),
    ]
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).map_or_else(|_| "unknown".into(), |s| s.trim().to_owned())
}

fn cpu_model() -> String {
    let text = read("/proc/cpuinfo");
    let model = text.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| "unknown".into(), |(_, name)| name.trim().to_owned())
}

/// First line that a program prints, on either stream.
fn output(program: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        return "not installed".into();
    };
    let all = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&all).lines().next().unwrap_or("unknown").trim().to_owned()
}
