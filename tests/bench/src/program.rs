//! One run of a program of kernels or loads, native or a guest, timed from outside by the lines it prints.
use crate::cpus::measured;
use crate::host::{Host, QEMU, bundle, machine, paravane, text, words};
use crate::server::target;
use anyhow::{Context, Result};
use paravane_kernels::{BEGIN, END};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// After this time a run counts as hung, s.
const TIMEOUT_S: &str = "300";

/// What runs a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    Native,
    Guest(Host),
}

/// What one run told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// Time from the first to the last pass by this process's clock, s.
    pub(crate) seconds: f64,
    /// The same by the program's own clock, s.
    pub(crate) own_seconds: f64,
    pub(crate) checksum: u64,
}

impl Runner {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Guest(host) => host.name(),
        }
    }

    /// Runs `passes` passes of a piece of `program` on the measured CPU.
    pub(crate) fn run(self, program: &Program<'_>, piece: &str, passes: u32) -> Result<Run> {
        let folder = tempfile::tempdir()?;
        let passes = passes.to_string();
        let [native, image] =
            [program.native, program.image].map(|name| target().join("image").join(name));
        let mut command = Command::new("timeout");
        command.args([TIMEOUT_S, "taskset", "-c", &measured().to_string()]);
        match self {
            Self::Native => {
                command.arg(native).args([piece, &passes]);
                command.envs(program.store.map(|store| ("IO_STORE", store)));
            }
            Self::Guest(Host::Emulation) => {
                let file = folder.path().join("program.elf");
                bundle(&file, &text(&image), &words(&["--watchdog", "0", "--", piece, &passes]))?;
                command.arg(QEMU).args(machine(&file, 320)).args(program.drive());
            }
            Self::Guest(host) => {
                let flags =
                    ["run", "--backend", host.name(), "--memory", "256M", "--watchdog", "0"];
                command.arg(paravane()).args(flags).args(program.disk());
                command.args([&text(&image), "--", piece, &passes]);
            }
        }
        watch(command).with_context(|| format!("{piece}, {}", self.name()))
    }
}

/// The same, compiled for the host and for a guest.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    pub(crate) native: &'static str,
    pub(crate) image: &'static str,
    /// The file that it works on.
    pub(crate) store: Option<&'a Path>,
}

impl Program<'_> {
    /// The store as a disk of `paravane run`.
    fn disk(&self) -> Vec<String> {
        self.store.map_or(Vec::new(), |store| words(&["--disk", &text(store)]))
    }

    /// The store as a disk of QEMU's machine.
    fn drive(&self) -> Vec<String> {
        let drive = |store| format!("file={},format=raw,if=none,id=store", text(store));
        let device = "virtio-blk-device,drive=store";
        self.store.map_or(Vec::new(), |store| words(&["-drive", &drive(store), "-device", device]))
    }
}

/// Starts a program, takes the time at its marks, and waits for its end.
fn watch(mut command: Command) -> Result<Run> {
    // One pipe for both streams: the console of a guest is the VMM's output, the marks of a native
    // program are on its standard error.
    let (reader, writer) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().context("starting a program")?;
    // The command holds the pipe's other end open, too.
    drop(command);
    let mut begin = None;
    let mut run = None;
    let mut seen = String::new();
    for line in BufReader::new(reader).lines() {
        let (line, now) = (line?, Instant::now());
        match (line.trim(), begin) {
            (BEGIN, _) => begin = Some(now),
            (mark, Some(begin)) if mark.starts_with(END) => {
                run = parse_end(mark, now.duration_since(begin).as_secs_f64());
            }
            (other, _) => seen += &format!("{other}\n"),
        }
    }
    let status = child.wait()?;
    run.with_context(|| format!("ended with {status} before its time was taken:\n{seen}"))
}

/// The mark after the last pass.
fn parse_end(mark: &str, seconds: f64) -> Option<Run> {
    let (nanoseconds, checksum) = mark.strip_prefix(END)?.trim().split_once(' ')?;
    let own_seconds = nanoseconds.parse::<f64>().ok()? / 1e9;
    Some(Run { seconds, own_seconds, checksum: checksum.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Run> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        watch(command)
    }

    #[test]
    fn the_time_between_the_marks_is_taken_on_either_stream() {
        let script = format!("sleep .2; echo '{BEGIN}' >&2; sleep .1; echo '{END} 90000000 7\r'");
        let run = shell(&script).unwrap();
        assert!(run.seconds >= 0.1, "{run:?}");
        assert_eq!((run.own_seconds, run.checksum), (0.09, 7));
    }

    #[test]
    fn a_program_without_marks_is_quoted() {
        let error = format!("{:#}", shell("echo out of memory; exit 3").unwrap_err());
        assert!(error.contains("exit status: 3") && error.contains("out of memory"), "{error}");
    }
}
