//! The guest that uses std and the C library function by function, and its ways to end.
use crate::backend::Backend;
use crate::case::Case;
use crate::domain::{Domain, Ended, guest};
use anyhow::{Result, ensure};

/// The groups of checks, by one of the lines that each prints.
const LINES: [&str; 13] = [
    "ok files",
    "ok memcpy",
    "ok HashMap",
    "ok println",
    "ok f64 functions",
    "ok malloc",
    "ok stack protector",
    "ok thread_local alignment",
    "ok Mutex between fibers",
    "ok spawn fails",
    "ok clock_gettime",
    "ok thread_local destructor called",
    "ok pthread_key destructor called",
];

pub(crate) fn cases() -> Vec<Case> {
    let end = |name, arguments, status, phrases| {
        Case::new(name, move |backend| run(backend, arguments)?.expect(status, phrases))
    };
    vec![
        Case::new("std-surface::checks", checks),
        end(
            "std-surface::panic",
            &["panic"],
            103,
            &["panicked at tests/guests/std-surface/src/ends.rs:8:", "that was asked for", "main"],
        ),
        end("std-surface::abort", &["abort"], 103, &["abort() was called"]),
        end("std-surface::overflow", &["overflow"], 103, &["page fault", "recurse"]),
        end("std-surface::exhaust", &["exhaust"], 103, &["out of memory", "--memory"]),
        end("std-surface::exit", &["exit", "7"], 7, &[]),
    ]
}

fn run(backend: Backend, arguments: &[&str]) -> Result<Ended> {
    let image = guest("std-surface");
    Domain::run(backend, &[&["--net", "none", &image, "--"], arguments].concat())
}

fn checks(backend: Backend) -> Result<()> {
    let ended = run(backend, &[])?;
    ended.expect(0, &LINES)?;
    let stray = ended.text.lines().find(|line| !line.starts_with("ok "));
    ensure!(stray.is_none(), "{stray:?} in\n{}", ended.text);
    Ok(())
}
