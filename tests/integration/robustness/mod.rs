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

fn case<F>(name: &str, kind: Kind, body: F) -> Case
where
    F: Fn(Backend) -> Result<()> + Send + Sync + 'static,
{
    let case = Case::new(format!("robustness::{name}"), body)
        .only_if(is_root(), "needs root to make a network namespace")
        .only_if(std::fs::exists("/dev/net/tun").unwrap_or(false), "there is no /dev/net/tun")
        .needs("ip");
    match kind {
        Kind::Device => case,
        Kind::Long => case.not_on_shim("the stack is the same on all backends, and emulation slow"),
    }
}
