//! Flags.
use super::{Status, disks, net, net6, qemu, size};
use crate::net::user::Publish;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// Exit statuses, shown by `--help`.
const STATUSES: &str = "\
Exit statuses of run:
  0        the guest ended as asked
  1 to 99  the guest ended itself with this status
  100      the command line is wrong
  101      there is no such image, or it is refused
  102      a file, a resource or a privilege of the host is missing
  103      the guest crashed (fault, panic, broken contract)
  104      the guest hung
  105      the VMM failed
  130      interrupted before the guest had ended
check ends with 1 if it finds a violation, doctor if no backend works here.";

/// What `bundle --help` ends with.
const BUNDLE_HELP: &str = concat!(
    "\
Exit statuses:
  0    the bundle was written
  100  the command line is wrong
  101  there is no such image, or it is refused
  102  a file is missing, or cannot be read or written

A bundle starts on anything that loads kernels with the PVH boot protocol. If it holds a site, the same
file is the machine's disk, too, so that the site takes no memory. For example:

",
    qemu::example!(),
    "\n"
);

/// Runs Paravane images: a service each, isolated like a virtual machine, started like a process.
#[derive(Debug, Parser)]
#[command(name = "paravane", version, after_help = STATUSES, infer_subcommands = false)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run an image
    Run(Run),
    /// Put an image, a site and the shim into one file, which boots where Paravane is not installed
    Bundle(Bundle),
    /// Check an image against the rules, and list instructions that a guest must not have; of a bundle,
    /// check the shim as well
    Check(Check),
    /// Say what works on this machine, and if not, why and what to do
    Doctor(Doctor),
}

/// `paravane run`.
#[derive(Debug, Args)]
#[command(after_help = STATUSES)]
pub(super) struct Run {
    /// Name of an image that comes with Paravane (such as web), or path of an image
    pub(super) image: PathBuf,
    /// How to execute the guest
    #[arg(long, value_enum, default_value_t = BackendChoice::Auto)]
    pub(super) backend: BackendChoice,
    /// Memory of the guest
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = size::parse)]
    pub(super) memory: u64,
    /// File handed to the guest as its configuration
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Seconds of processor time without a hypercall after which a guest counts as hung; 0 for never
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(super) watchdog: u32,
    /// Microseconds for which an idle guest looks for news before it sleeps; 0 for not at all
    ///
    /// A request that comes meanwhile is answered without waking a processor up, which takes longer than
    /// most answers. The price is processor time: the time to look grows up to this while news comes
    /// within it, and shrinks to nothing when it does not. Worth while on a processor of its own.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0,
          value_parser = clap::value_parser!(u32).range(0..=POLL_MAX_US))]
    pub(super) poll: u32,
    /// Arguments of the guest
    #[arg(last = true, value_name = "ARGS")]
    pub(super) arguments: Vec<String>,
    #[command(flatten)]
    pub(super) network: Network,
    #[command(flatten)]
    pub(super) storage: Storage,
}

/// Longest time to look for news. Beyond that, nothing is gained that is worth a processor.
const POLL_MAX_US: i64 = 10_000;

/// The guest's network.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(super) struct Network {
    /// Network of the guest: user (needs no privileges), tap, tap=INTERFACE or none
    ///
    /// Without this flag, images that know a network device get user.
    #[arg(long, value_name = "NETWORK")]
    pub(super) net: Option<net::Choice>,
    /// Port of the host that leads to the guest, with --net user; can be given several times
    ///
    /// With --site, 127.0.0.1:8080:80 unless something else is given.
    #[arg(long, value_name = "[ADDR:]HOST:GUEST[/udp]")]
    pub(super) publish: Vec<Publish>,
    /// Address of the guest with the length of its network's prefix [default: 10.0.2.15/24; DHCP on
    /// an existing TAP interface]
    #[arg(long, value_name = "CIDR")]
    pub(super) ip: Option<net::Cidr>,
    /// Gateway of the guest; on a TAP interface that is created, the address of the host's side
    #[arg(long, value_name = "IP")]
    pub(super) gateway: Option<Ipv4Addr>,
    /// IPv6 address of the guest with the length of its network's prefix, on a TAP interface, or none
    /// [default: what routers advertise]
    #[arg(long, value_name = "CIDR")]
    pub(super) ip6: Option<net6::Choice>,
    /// IPv6 gateway of the guest; on a TAP interface that is created, the address of the host's side
    #[arg(long, value_name = "IP", requires = "ip6")]
    pub(super) gateway6: Option<Ipv6Addr>,
}

/// The guest's block devices.
#[derive(Debug, Args)]
#[command(next_help_heading = "Storage")]
pub(super) struct Storage {
    /// Directory or tar file with the site to serve
    #[arg(long, value_name = "PATH")]
    pub(super) site: Option<PathBuf>,
    /// File or block device that the guest uses as a disk; can be given several times
    #[arg(long, value_name = "PATH[,ro]")]
    pub(super) disk: Vec<disks::Disk>,
}

/// Values of `--backend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum BackendChoice {
    /// kvm where it works well, else process
    Auto,
    /// A virtual machine of the Linux kernel's KVM
    Kvm,
    /// A sandboxed process
    Process,
}

/// `paravane bundle`.
#[derive(Debug, Args)]
#[command(after_help = BUNDLE_HELP)]
pub(super) struct Bundle {
    /// Name of an image that comes with Paravane (such as web), or path of an image
    pub(super) image: PathBuf,
    /// File to write; one that exists is replaced
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: PathBuf,
    /// Directory or tar file with the site to serve, copied into the bundle
    #[arg(long, value_name = "PATH")]
    pub(super) site: Option<PathBuf>,
    /// File handed to the guest as its configuration, copied into the bundle
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Address of the guest with the length of its network's prefix [default: DHCP]
    #[arg(long, value_name = "CIDR")]
    pub(super) ip: Option<net::Cidr>,
    /// Gateway of the guest
    #[arg(long, value_name = "IP", requires = "ip")]
    pub(super) gateway: Option<Ipv4Addr>,
    /// IPv6 address of the guest with the length of its network's prefix, or none [default: what
    /// routers advertise]
    #[arg(long, value_name = "CIDR")]
    pub(super) ip6: Option<net6::Choice>,
    /// IPv6 gateway of the guest
    #[arg(long, value_name = "IP", requires = "ip6")]
    pub(super) gateway6: Option<Ipv6Addr>,
    /// Seconds without a sign of life after which the guest counts as hung; 0 for never
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(super) watchdog: u32,
    /// Arguments of the guest
    #[arg(last = true, value_name = "ARGS")]
    pub(super) arguments: Vec<String>,
}

/// `paravane check`.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Name of an image that comes with Paravane, or path of an image, a bundle or the shim
    pub(super) image: PathBuf,
    /// Report as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// `paravane doctor`.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Report as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Shows the help that was asked for, or one line about what is wrong.
pub(super) fn explain(error: &clap::Error) -> Status {
    let asked = [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion];
    if asked.contains(&error.kind()) {
        // Nothing is left to do if nobody reads the help.
        let _ = error.print();
        return Status::OK;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return Status::USAGE;
    }
    // The first paragraph says what is wrong; tips and usage follow.
    let text = error.to_string();
    let words = text.split("\n\n").next().unwrap_or_default().split_whitespace();
    let line = words.collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    super::fail(Status::USAGE, &format!("{line} (see paravane --help)"))
}
