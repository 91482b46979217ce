//! The driver and the stack, and the turns of the executor in which they work.
//!
//! All frames that have arrived are taken in before any task runs, and all that tasks write is sent
//! after they ran, so that one notification serves them all.
use super::error::NetError;
use super::port::{Reserve, TxPort};
use crate::device::{HeapDma, Hypercalls};
use crate::executor::Poller;
use crate::time::{Instant, now};
use crate::{entropy, start, to_usize};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::net::{Ipv4Addr, Ipv6Addr};
use paravane_abi::device::{Device, Ipv6Config, Ipv6Mode, NetConfig};
use paravane_netstack::{
    Addressing, Addressing6, BufferLimits, Config, Instant as StackInstant, Lease, Lease6,
    Offloads, RxMeta, Stack,
};
use paravane_pv_drivers::net::{Checksum, Net};
use paravane_pv_drivers::{AttachError, Dma, Transport};

/// Most frames taken in during one turn.
const FRAMES_PER_TURN: usize = 256;

/// Part of RAM for the buffers of connections.
const BUFFER_SHARE: u64 = 4;

/// Bytes of RAM for each connection that is allowed. An idle one costs less than 2 KiB in all, the
/// application's part included (tests/integration/tap.rs); others live on [`BUFFER_SHARE`].
const RAM_PER_CONNECTION: u64 = 8 << 10;

/// The network device and what runs on it.
pub(super) struct Interface<D: Dma = HeapDma, T: Transport = Hypercalls> {
    driver: Net<D, T>,
    stack: Stack,
    reserve: Reserve<D>,
    /// Where frames that came in pieces are put together.
    scratch: Vec<u8>,
    has_failed: bool,
}

impl Interface {
    /// Takes entry `index` of the device table into use.
    pub(super) fn attach(index: u32, device: &Device) -> Result<Self, AttachError> {
        let driver = Net::new(HeapDma, Hypercalls, index, device)?;
        let mut seed = [0; 8];
        entropy::fill(&mut seed);
        let seed = u64::from_le_bytes(seed);
        let config = Config {
            addressing6: addressing6(&start::info().ipv6(index)),
            ..config(&driver, start::info().ram_size, seed)
        };
        Ok(Self::new(driver, config, stack_time(now())))
    }
}

impl<D: Dma, T: Transport> Interface<D, T> {
    fn new(driver: Net<D, T>, config: Config, now: StackInstant) -> Self {
        let stack = Stack::new(config, now);
        Self { driver, stack, reserve: [None, None], scratch: Vec::new(), has_failed: false }
    }

    /// The stack, unless the device is dead.
    pub(super) fn stack(&mut self) -> Result<&mut Stack, NetError> {
        if self.has_failed { Err(NetError::DeviceFailed) } else { Ok(&mut self.stack) }
    }

    /// Takes in what arrived. True if there may be more.
    fn receive(&mut self, now: StackInstant) -> bool {
        for _ in 0..FRAMES_PER_TURN {
            let frame = match self.driver.receive() {
                Ok(Some(frame)) => frame,
                Ok(None) => return false,
                Err(fault) => {
                    if !core::mem::replace(&mut self.has_failed, true) {
                        log::error!("the network device is not used any more: {fault:?}");
                    }
                    return false;
                }
            };
            let csum_valid = frame.meta().checksum != Checksum::Complete;
            let bytes = frame.contiguous(&mut self.scratch);
            let mut port = TxPort::new(&mut self.driver, &mut self.reserve);
            self.stack.receive(now, bytes, RxMeta { csum_valid }, &mut port);
            self.driver.recycle(frame);
        }
        true
    }

    /// Sends what tasks wrote and what is due. True if frames are there already.
    fn send(&mut self, now: StackInstant) -> bool {
        let mut port = TxPort::new(&mut self.driver, &mut self.reserve);
        self.stack.poll(now, &mut port);
        self.driver.flush();
        if let Some(address) = self.stack.take_conflict() {
            log::error!("another machine has the address {address}: it is not used any more");
        }
        self.driver.enable_events()
    }
}

/// Drives the interface from the executor's loop.
pub(super) struct NetPoller(Rc<RefCell<Interface>>);

impl NetPoller {
    pub(super) fn new(interface: Rc<RefCell<Interface>>) -> Self {
        Self(interface)
    }
}

impl Poller for NetPoller {
    fn poll(&mut self, now: Instant) -> bool {
        self.0.borrow_mut().receive(stack_time(now))
    }

    fn before_wait(&mut self, now: Instant) -> bool {
        let mut interface = self.0.borrow_mut();
        !interface.has_failed && interface.send(stack_time(now))
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        let interface = self.0.borrow();
        let deadline = interface.stack.next_deadline().filter(|_| !interface.has_failed)?;
        let us = u64::try_from(deadline.total_micros()).unwrap_or(0);
        Some(Instant::from_nanos(us.saturating_mul(1000)))
    }
}

fn stack_time(now: Instant) -> StackInstant {
    StackInstant::from_micros(i64::try_from(now.as_nanos() / 1000).unwrap_or(i64::MAX))
}

fn config<D: Dma, T: Transport>(driver: &Net<D, T>, ram_size: u64, seed: u64) -> Config {
    Config {
        mac: driver.config().mac,
        mtu: usize::from(driver.config().mtu),
        offloads: Offloads {
            tx_checksum: driver.completes_checksums(),
            tx_segmentation: driver.segments_tcp(),
            tx_segmentation6: driver.segments_tcp6(),
        },
        addressing: addressing(driver.config()),
        addressing6: Addressing6::Off,
        any_ip: false,
        connections_max: to_usize(ram_size / RAM_PER_CONNECTION),
        buffers: BufferLimits {
            rx_min: 2 << 10,
            rx_max: 1 << 20,
            tx_min: 4 << 10,
            tx_max: 1 << 20,
            total: to_usize(ram_size / BUFFER_SHARE),
        },
        seed,
    }
}

/// The operator's addresses, or DHCP if there are none.
fn addressing(config: &NetConfig) -> Addressing {
    let known = |octets| Some(Ipv4Addr::from_octets(octets)).filter(|a| !a.is_unspecified());
    match known(config.ipv4_address) {
        Some(address) => Addressing::Static(Lease {
            address,
            prefix_len: config.ipv4_prefix_len,
            gateway: known(config.ipv4_gateway),
            dns: known(config.ipv4_dns),
        }),
        None => Addressing::Dhcp,
    }
}

/// Where IPv6 addresses come from, as the operator has it.
fn addressing6(config: &Ipv6Config) -> Addressing6 {
    let known = |octets| Some(Ipv6Addr::from_octets(octets)).filter(|a| !a.is_unspecified());
    match config.mode() {
        Ipv6Mode::Off => Addressing6::Off,
        Ipv6Mode::Automatic => Addressing6::Automatic,
        Ipv6Mode::Static => Addressing6::Static(Lease6 {
            address: Ipv6Addr::from_octets(config.address),
            prefix_len: config.prefix_len,
            gateway: known(config.gateway),
            dns: known(config.dns),
        }),
    }
}

#[cfg(test)]
mod tests;
