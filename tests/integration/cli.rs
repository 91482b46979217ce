//! Every mistake of an operator gives one clear line and the documented status.
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use std::process::Command;

/// Arguments, exit status, and what the one line must say.
const MISTAKES: &[(&[&str], i32, &str)] = &[
    (&["run"], 100, "IMAGE"),
    (&["run", "no-such-image"], 101, "no-such-image"),
    (&["run", "/dev/null"], 101, "ELF"),
    (&["run", "/bin/true"], 101, "/bin/true"),
    (&["run", "/"], 101, "/"),
    (&["run", "web", "--memory", "lots"], 100, "lots"),
    (&["run", "web", "--memory", "1M"], 100, "memory"),
    (&["run", "web", "--backend", "magic"], 100, "magic"),
    (&["run", "web", "--net", "wifi"], 100, "wifi"),
    (&["run", "web", "--publish", "80"], 100, "80"),
    (&["run", "web", "--publish", "99999:80"], 100, "99999"),
    (&["run", "web", "--ip", "10.0.0.300/24"], 100, "10.0.0.300"),
    (&["run", "web", "--gateway", "nowhere"], 100, "nowhere"),
    (&["run", "web", "--ip6", "fd00::2"], 100, "length of its prefix"),
    (&["run", "web", "--net", "tap", "--ip6", "fe80::2/64"], 100, "fe80::2/64"),
    (&["run", "web", "--ip6", "fd00::2/64"], 100, "--net tap"),
    (&["run", "web", "--net", "tap", "--gateway6", "fd00::1"], 100, "--ip6"),
    (
        &["run", "web", "--net", "tap", "--ip6", "fd00::2/64", "--gateway6", "fd01::1"],
        100,
        "no neighbour",
    ),
    (&["run", "web", "--site", "/no/such/site"], 102, "/no/such/site"),
    (&["run", "web", "--disk", "/no/such/disk"], 102, "/no/such/disk"),
    (&["run", "web", "--config", "/no/such/config"], 102, "/no/such/config"),
    (&["run", "web", "--no-such-flag"], 100, "--no-such-flag"),
    (&["check", "/no/such/image"], 102, "/no/such/image"),
    (&["frobnicate"], 100, "frobnicate"),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = MISTAKES
        .iter()
        .map(|(arguments, status, says)| {
            let name = format!("cli::{}", arguments.join(" "));
            Trial::test(name, move || {
                mistake(arguments, *status, says).map_err(|e| e.to_string().into())
            })
        })
        .collect();
    let shown = |name: &str, body: fn() -> Result<()>| {
        Trial::test(name.to_owned(), move || body().map_err(|e| e.to_string().into()))
    };
    trials.push(shown("cli::help", help));
    trials.push(shown("cli::check-shipped-images", check_images));
    trials.push(shown("cli::check-finds-violations", check_finds));
    trials
}

fn paravane(arguments: &[&str]) -> Result<(i32, String, String)> {
    let output = Command::new(crate::domain::paravane()).args(arguments).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
}

fn mistake(arguments: &[&str], expected: i32, says: &str) -> Result<()> {
    let (status, _, error) = paravane(arguments)?;
    ensure!(status == expected, "status {status}, not {expected}: {error}");
    ensure!(error.contains(says), "{says:?} is missing: {error}");
    // Usage errors may show the usage below the message.
    let first = error.lines().next().unwrap_or("");
    ensure!(!error.contains("panicked") && !first.is_empty(), "{error}");
    Ok(())
}

fn help() -> Result<()> {
    let (status, text, _) = paravane(&["run", "--help"])?;
    ensure!(status == 0, "{text}");
    for option in
        ["--backend", "--memory", "--net", "--publish", "--ip", "--gateway", "--ip6", "--site"]
    {
        ensure!(text.contains(option), "{option} is missing:\n{text}");
    }
    Ok(())
}

fn check_images() -> Result<()> {
    let (status, text, error) = paravane(&["check", "web", "--json"])?;
    ensure!(status == 0, "{text}{error}");
    let report: serde_json::Value = serde_json::from_str(&text)?;
    ensure!(report["findings"].as_array().is_some_and(Vec::is_empty), "{text}");
    Ok(())
}

/// The hostile guest is full of what a guest must not have.
fn check_finds() -> Result<()> {
    let (status, text, _) = paravane(&["check", &crate::domain::guest("hostile")])?;
    ensure!(status == 1, "status {status}: {text}");
    for instruction in ["hlt", "syscall", "wrmsr", "vmcall"] {
        ensure!(text.contains(instruction), "{instruction} is missing:\n{text}");
    }
    Ok(())
}
