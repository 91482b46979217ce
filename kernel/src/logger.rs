//! The `log` backend: records as lines on the console.
use crate::console::{self, Writer};
use crate::time;
use core::fmt::Write;
use log::{Level, LevelFilter, Log, Metadata, Record};

/// Level without a `kernel.log=` argument.
const DEFAULT_LEVEL: LevelFilter = LevelFilter::Info;

struct Console;

impl Log for Console {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let us = time::now().as_nanos() / 1_000;
        let (seconds, micros) = (us / 1_000_000, us % 1_000_000);
        let (level, target, text) = (record.level(), record.target(), record.args());
        // The console takes all text; there is no error to handle.
        let _ = writeln!(Writer, "[{seconds:5}.{micros:06}] {level:5} {target}: {text}");
        if record.level() <= Level::Warn {
            // What announces trouble must not be lost in it.
            console::flush();
        }
    }

    fn flush(&self) {
        console::flush();
    }
}

/// Makes the console the target of the `log` macros. `arguments` are those of the kernel, of which the
/// level is the only one there is.
pub(crate) fn install(arguments: impl Iterator<Item = &'static str>) {
    // An error means that the application brought its own logger before: that one stays.
    if log::set_logger(&Console).is_ok() {
        log::set_max_level(DEFAULT_LEVEL);
    }
    for argument in arguments {
        match level(argument) {
            Some(level) => log::set_max_level(level),
            None => log::warn!("there is no argument kernel.{argument}"),
        }
    }
}

/// The level that a kernel argument of the form `log=LEVEL` asks for.
fn level(argument: &str) -> Option<LevelFilter> {
    argument.strip_prefix("log=")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_comes_from_the_log_argument() {
        assert_eq!(level("log=debug"), Some(LevelFilter::Debug));
        assert_eq!(level("log=off"), Some(LevelFilter::Off));
        assert_eq!(level("log=loud"), None);
        assert_eq!(level("blog=debug"), None);
    }
}
