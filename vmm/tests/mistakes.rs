//! Every mistake on the command line gives one clear line and the documented status.
#![allow(clippy::unwrap_used, reason = "a test")]
use std::io::Write;
use std::process::Command;
use tempfile::NamedTempFile;

#[path = "../../host/tests/common/elf.rs"]
mod elf;
use elf::ElfBuilder;
use paravane_abi::device::DeviceKind;
use paravane_abi::manifest::{Manifest, ManifestDevice};

fn paravane(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_paravane")).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text)
}

/// The mistake gives this status and one line that has the phrase.
fn check(arguments: &[&str], status: i32, phrase: &str) {
    let (found, text) = paravane(arguments);
    assert_eq!(found, status, "{arguments:?}: {text}");
    assert!(text.contains(phrase), "{arguments:?}: {phrase:?} is missing: {text}");
    assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
    assert!(text.starts_with("paravane: "), "{text}");
}

fn image(devices: &[ManifestDevice]) -> (NamedTempFile, String) {
    let manifests = vec![Manifest::new("test", 8 << 20, devices).with_stacks(1, 64 << 10)];
    let elf = ElfBuilder { manifests, ..ElfBuilder::default() };
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&elf.build()).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    (file, path)
}

#[test]
fn flags_that_cannot_be_read() {
    let (_file, path) = image(&[]);
    let (status, help) = paravane(&[]);
    assert_eq!(status, 100);
    assert!(help.contains("Usage: paravane <COMMAND>"), "{help}");
    check(&["fly"], 100, "fly");
    check(&["run"], 100, "<IMAGE>");
    check(&["run", &path, "--frobnicate"], 100, "--frobnicate");
    check(&["run", &path, "--memory", "3"], 100, "a guest has from 4M");
    check(&["run", &path, "--backend", "magic"], 100, "magic");
    check(&["run", &path, "--net", "wifi"], 100, "give user, tap");
    check(&["run", &path, "--ip", "1.2.3.4"], 100, "prefix");
    check(&["run", &path, "--publish", "80"], 100, "80");
    check(&["run", &path, "--watchdog", "soon"], 100, "soon");
    check(&["run", &path, "stray"], 100, "stray");
}

#[test]
fn flags_that_do_not_go_together() {
    let (_file, path) = image(&[]);
    check(&["run", &path, "--net", "none", "--publish", "1:1"], 100, "--net user only");
    let gateway = ["run", &path, "--net", "user", "--ip", "10.0.0.2/24", "--gateway", "10.0.1.1"];
    check(&gateway, 100, "no neighbour");
    check(&["run", &path, "--memory", "4M"], 100, "at least 8 MiB of memory");
    let long = "x".repeat(2000);
    check(&["run", &path, "--", &long], 100, "longer than 1024 bytes");
    let net = ManifestDevice { kind: DeviceKind::Net as u32, required: 1 };
    let block = ManifestDevice { kind: DeviceKind::Block as u32, required: 1 };
    let (_file, path) = image(&[net, block]);
    check(&["run", &path, "--net", "none"], 100, "needs a network device");
    check(&["run", &path, "--net", "user"], 100, "needs a block device");
}

#[test]
fn files_that_are_missing_or_wrong() {
    let (_file, path) = image(&[]);
    let missing = "/no/such/file";
    check(&["run", "nonsense"], 101, "nonsense");
    check(&["run", missing], 101, missing);
    check(&["run", "/dev/null"], 101, "not an ELF file");
    check(&["run", "/bin/sh"], 101, "/bin/sh");
    check(&["run", &path, "--config", missing], 102, missing);
    check(&["run", &path, "--disk", missing], 102, missing);
    check(&["run", &path, "--disk", "/,ro"], 102, "a disk is a file");
    check(&["run", &path, "--site", missing], 102, missing);
    check(&["check", missing], 102, missing);
    check(&["check", "/bin/sh"], 1, "/bin/sh");
}

#[test]
fn a_busy_port() {
    let (_file, path) = image(&[]);
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let publish = format!("{port}:80");
    check(&["run", &path, "--net", "user", "--publish", &publish], 102, "in use");
}

#[test]
fn help_is_no_mistake() {
    for arguments in [&["--help"][..], &["run", "--help"], &["--version"]] {
        assert_eq!(paravane(arguments), (0, String::new()));
    }
}
