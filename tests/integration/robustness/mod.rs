//! The guest's network stack against peers that are not its own: Linux's TCP over wires with faults, and
//! frames that the cases write themselves.
mod attacks;
mod churn;
mod closing;
mod flood;
mod impaired;
mod lan;
mod neighbour;
mod offload;
mod opening;
mod packet;
mod path_mtu;
mod peer;
mod random;
mod relay;
mod services;
mod tap;
mod windows;

use crate::backend::Backend;
use crate::case::Case;
use crate::namespace::is_root;
use anyhow::Result;

pub(crate) fn cases() -> Vec<Case> {
    [
        impaired::cases(),
        windows::cases(),
        opening::cases(),
        attacks::cases(),
        churn::cases(),
        closing::cases(),
        flood::cases(),
        neighbour::cases(),
        offload::cases(),
        path_mtu::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Where a case is worth its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// On every backend: the device has a part in it.
    Device,
    /// About the stack alone, which is the same behind every device.
    Long,
}

/// What the stack does not do, and why: these cases are skipped with the reason in their names.
const LIMITS: &[(&str, &str)] = &[
    ("closed-port", SMOLTCP),
    ("reset-elsewhere-in-the-window", SMOLTCP),
    ("syn-in-a-connection", SMOLTCP),
    ("data-with-an-old-acknowledgement", SMOLTCP),
    ("fin-before-its-data", SMOLTCP),
    ("churn-of-connections", SMOLTCP),
    ("wire-with-loss-10-percent", SMOLTCP),
    ("path-mtu-of-1280", SMOLTCP),
    ("path-mtu-of-600", SMOLTCP),
    ("path-mtu-of-a-black-hole", SMOLTCP),
    ("path-mtu-of-1280-ipv6", SMOLTCP),
    ("path-mtu-of-a-black-hole-ipv6", SMOLTCP),
    ("peer-moves-and-announces-it", MOVES),
    ("peer-moves-and-is-asked-for", MOVES),
];
const SMOLTCP: &str = "smoltcp's TCP does not do so";
const MOVES: &str = "a connection keeps its peer's address until the peer speaks";

fn case<F>(name: &str, kind: Kind, body: F) -> Case
where
    F: Fn(Backend) -> Result<()> + Send + Sync + 'static,
{
    let case = Case::new(format!("robustness::{name}"), body)
        .only_if(is_root(), "needs root to make a network namespace")
        .only_if(std::fs::exists("/dev/net/tun").unwrap_or(false), "there is no /dev/net/tun")
        .needs("ip");
    let limit = LIMITS.iter().find(|(limited, _)| *limited == name);
    let case = case.only_if(limit.is_none(), limit.map_or("", |(_, reason)| reason));
    match kind {
        Kind::Device => case,
        Kind::Long => case.not_on_shim("the stack is the same on all backends, and emulation slow"),
    }
}
