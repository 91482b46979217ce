//! The command line.
use crate::noise;
use crate::web::Contender;
use clap::{Args, Parser, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Reads, writes and flushes of a disk, and a hypercall, against a file and a system call.
    Block,
    /// Exec of `paravane` to the first HTTP 200.
    Boot,
    /// Pieces of pure computation in a guest, against the same compiled natively.
    Cpu,
    /// Many idle web appliances at once: starting them, their memory and processor time, a request to one.
    Density,
    /// Sizes of what is installed, memory of an idle appliance and of idle connections.
    Memory,
    /// Bytes in and out on one connection, and the round trip of one byte, against a plain epoll server.
    Net,
    /// The web appliance on each host against nginx: requests, downloads, uploads, latency.
    Web,
    /// Every part, as when none is named.
    All,
}

impl Part {
    /// The word on the command line, and what the names of the part's plots begin with.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Boot => "boot",
            Self::Cpu => "cpu",
            Self::Density => "density",
            Self::Memory => "memory",
            Self::Net => "net",
            Self::Web => "web",
            Self::All => "all",
        }
    }
}

/// Measures the release build against native programs on this machine.
///
/// docs/benchmarks.md says what is measured, and how.
#[derive(Debug, Parser)]
#[command(name = "bench", bin_name = "scripts/bench", after_help = noise::HELP)]
pub(crate) struct Arguments {
    /// What to measure; everything by default.
    parts: Vec<Part>,
    /// Where results.json, results.md and the plots PART*.svg go. Those of an earlier session are
    /// removed.
    #[arg(long, default_value = "target/bench")]
    pub(crate) results: PathBuf,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// How to measure.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Options {
    /// Few and short runs: shows that the benchmarks work, not how fast anything is.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Numbers of appliances of the part density [default: 1,10,100,1000, quick: 20].
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) appliances: Vec<u32>,
    /// Rounds of the parts net and web: how often each server has its turn at a load [default: 5, quick: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: Option<u32>,
    /// Length of a run of the parts net and web [default: 3, quick: 1].
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: Option<u32>,
    /// Loads of the parts net and web, by name or by the beginning of one up to a hyphen: keepalive-128-N,
    /// keepalive-1k-N (N connections: 16, 128, 1024, 4096), close, pipelined, download-1m-CC,
    /// download-64m-CC, upload-CC (CC: the default congestion control, reno), latency-low, latency-half;
    /// net-in-CC, net-out-CC, net-ping-pong.
    #[arg(long, value_name = "LOAD", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Servers of the parts net and web; all that this machine can have by default.
    #[arg(long, value_name = "SERVER", value_delimiter = ',')]
    pub(crate) servers: Vec<Contender>,
}

impl Arguments {
    /// Whether a part is to be measured.
    pub(crate) fn has(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part) || self.parts.contains(&Part::All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(["bench"].into_iter().chain(line.split_whitespace()))
    }

    #[test]
    fn parts_are_all_unless_some_are_named() {
        for (line, boot, web) in
            [("", true, true), ("all", true, true), ("web", false, true), ("boot", true, false)]
        {
            let arguments = parse(line).unwrap();
            assert_eq!(
                [arguments.has(Part::Boot), arguments.has(Part::Web)],
                [boot, web],
                "{line}"
            );
        }
    }

    #[test]
    fn lists_are_separated_by_commas_and_nothing_takes_no_time() {
        let options = parse("web --only close,upload --servers nginx,process-tap").unwrap().options;
        assert_eq!(parse("density --appliances 5,50").unwrap().options.appliances, [5, 50]);
        assert_eq!(options.only, ["close", "upload"]);
        assert_eq!(options.servers, [Contender::Nginx, Contender::ProcessTap]);
        for wrong in ["--appliances 0", "--rounds 0", "--seconds 0", "--servers apache", "walk"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
