//! wrk: as many requests as the server answers, on connections that always have one under way.
use super::site::File;
use crate::cpus::clients;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Requests that are sent at a time when they are pipelined.
pub(crate) const DEPTH: u32 = 16;

/// A connection that waited long to be taken, as user networks have them wait, is slow and no error.
const PATIENCE: &str = "30s";

/// Prints what was counted in a line of its own; wrk's own output is rounded.
const TALLY: &str = "\
function done(summary, latency, requests)
    local e = summary.errors
    io.write(string.format('tally %d %d %d connect %d read %d write %d status %d timeout %d\\n',
        summary.requests, summary.duration, summary.bytes,
        e.connect, e.read, e.write, e.status, e.timeout))
end
";

/// Sends several requests at a time.
fn pipelining() -> String {
    format!(
        "function init(args)\n    batch = wrk.format():rep({DEPTH})\nend\n\
         function request()\n    return batch\nend\n"
    )
}

/// How the connections are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    KeepAlive,
    /// Each request on a new one.
    Close,
    Pipelined,
}

/// What wrk counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tally {
    pub(crate) requests: f64,
    pub(crate) seconds: f64,
    pub(crate) bytes: f64,
}

/// Runs wrk for some seconds. Any error that it counted is an error.
pub(crate) fn run(
    address: &str,
    file: File,
    connections: u32,
    style: Style,
    seconds: u32,
) -> Result<Tally> {
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("bench.lua");
    let text = if style == Style::Pipelined { pipelining() } else { String::new() };
    fs::write(&script, text + TALLY)?;
    let mut command = command(&script, connections, seconds);
    if style == Style::Close {
        command.args(["-H", "Connection: close"]);
    }
    let output = command.arg(format!("http://{address}{}", file.path())).output();
    let output = output.context("running wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "wrk: {}", String::from_utf8_lossy(&output.stderr).trim());
    parse(&text)
}

fn command(script: &Path, connections: u32, seconds: u32) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &clients().to_string(), "wrk", "-t1", "--timeout", PATIENCE]);
    command.args([format!("-c{connections}"), format!("-d{seconds}s"), "-s".into()]).arg(script);
    command
}

/// The line that `TALLY` prints.
fn parse(text: &str) -> Result<Tally> {
    let line = text.lines().find_map(|line| line.strip_prefix("tally "));
    let line = line.with_context(|| format!("wrk printed no tally: {text}"))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let [requests, duration_us, bytes, errors @ ..] = &words[..] else {
        anyhow::bail!("wrk's tally is cut short: {line}");
    };
    let counts = errors.chunks_exact(2);
    ensure!(counts.len() == 5 && counts.remainder().is_empty(), "wrk's tally is cut short: {line}");
    let failed: Vec<_> = counts.filter(|pair| pair[1] != "0").map(|pair| pair.join(" ")).collect();
    ensure!(failed.is_empty(), "errors that wrk counted: {}", failed.join(", "));
    let number = |word: &str| word.parse::<f64>().with_context(|| format!("{word:?} in {line}"));
    let tally = Tally {
        requests: number(requests)?,
        seconds: number(duration_us)? / 1e6,
        bytes: number(bytes)?,
    };
    ensure!(tally.requests > 0.0 && tally.seconds > 0.0, "nothing was answered");
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: &str =
        "Running 1s test @ http://127.0.0.1:80/\n  1 threads and 64 connections\n";
    const GOOD: &str = "tally 1500 2000000 99000 connect 0 read 0 write 0 status 0 timeout 0\n";

    #[track_caller]
    fn check_error(tally: &str, expect: &str) {
        let error = parse(&format!("{RUNNING}{tally}")).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn the_tally_is_found_among_what_wrk_prints() {
        let tally = parse(&format!("{RUNNING}Requests/sec:    750.00\n{GOOD}")).unwrap();
        assert_eq!(tally, Tally { requests: 1500.0, seconds: 2.0, bytes: 99_000.0 });
    }

    #[test]
    fn errors_are_named() {
        check_error(&GOOD.replace("read 0", "read 7"), "errors that wrk counted: read 7");
        let two = GOOD.replace("status 0", "status 1").replace("timeout 0", "timeout 2");
        check_error(&two, "status 1, timeout 2");
        check_error(&GOOD.replace("1500", "0"), "nothing was answered");
    }

    #[test]
    fn what_is_no_tally_is_quoted() {
        check_error("unable to connect\n", "unable to connect");
        check_error("tally 1500 2000000\n", "cut short");
        check_error("tally 1500 2000000 99000 connect 0 read\n", "cut short");
        check_error(&GOOD.replace("2000000", "soon"), "soon");
    }
}
