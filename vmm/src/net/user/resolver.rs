//! The host's resolver: where DNS queries of the guest go.
use std::fs;
use std::net::{IpAddr, SocketAddr};

const CONFIGURATION: &str = "/etc/resolv.conf";
const PORT: u16 = 53;

/// The first server that the host itself would ask, read anew each time since networks change.
pub(super) fn server() -> Option<SocketAddr> {
    first_server(&fs::read_to_string(CONFIGURATION).ok()?)
}

fn first_server(configuration: &str) -> Option<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|&word| word == "nameserver").and(words.next())?;
        Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, PORT))
    };
    configuration.lines().find_map(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_readable_server_counts() {
        let check = |text, expect: Option<&str>| {
            assert_eq!(first_server(text), expect.map(|address| address.parse().unwrap()));
        };
        check("# none\nsearch example.org\n", None);
        check("nameserver\nnameserver nonsense\n", None);
        check("options x\n nameserver\t192.0.2.53 \nnameserver 192.0.2.54", Some("192.0.2.53:53"));
        check("nameserver 2001:db8::1\n", Some("[2001:db8::1]:53"));
    }
}
