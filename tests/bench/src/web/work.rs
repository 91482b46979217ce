//! What a server has to do.
use super::site::Site;
use crate::appliance::Guest;
use crate::host::{text, words};
use crate::server::target;
use std::path::PathBuf;

/// What the programs `net-load` and `net-load-native` do, in the order of their arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// Take bytes, and say how many there were.
    Sink,
    /// Send bytes.
    Source,
    /// Send back what comes.
    Echo,
}

impl Service {
    fn port(self) -> u16 {
        match self {
            Self::Sink => 9001,
            Self::Source => 9002,
            Self::Echo => 9003,
        }
    }
}

/// Memory of the measured guests: half of it is more than enough for 4096 connections.
pub(crate) const MEMORY_MIB: u32 = 512;

/// The web appliance keeps all files in memory, as the page cache does for nginx.
const WEB_CONFIG: &str = "\
access_log = false
[cache]
total_bytes = 100663296
file_bytes = 67108864
";

/// The work of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work<'a> {
    /// Serve files.
    Site(&'a Site),
    /// Move bytes.
    Bytes(Service),
}

impl Work<'_> {
    /// The guest that does it.
    pub(crate) fn guest(self) -> Guest {
        match self {
            Self::Site(site) => Guest {
                config: WEB_CONFIG.into(),
                memory_mib: MEMORY_MIB,
                ..Guest::web(site.folder())
            },
            Self::Bytes(service) => Guest {
                image: text(&built("net-load")),
                arguments: ports(),
                site: None,
                config: String::new(),
                memory_mib: MEMORY_MIB,
                port: service.port(),
            },
        }
    }
}

/// The native program that moves bytes, its arguments for an address, and where it does what is wanted.
pub(crate) fn native_service(service: Service, ip: &str) -> (PathBuf, Vec<String>, String) {
    let arguments = words(&[ip]).into_iter().chain(ports()).collect();
    (built("net-load-native"), arguments, format!("{ip}:{}", service.port()))
}

fn ports() -> Vec<String> {
    [Service::Sink, Service::Source, Service::Echo]
        .map(|service| service.port().to_string())
        .to_vec()
}

/// A program of the profile that images ship with.
fn built(program: &str) -> PathBuf {
    target().join("image").join(program)
}
