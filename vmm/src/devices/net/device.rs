//! The device: its table entry, and the two queues in use.
use super::super::queue::Virtqueue;
use super::super::{Device, GuestFault};
use super::frames::FrameLink;
use super::receive::Receiver;
use super::transmit::Transmitter;
use crate::memory::GuestRam;
use crate::net::wire::Wants;
use paravane_abi::device::{
    Attach, Device as TableEntry, DeviceKind, Ipv6Config, NetConfig, feature,
};
use std::os::fd::RawFd;

/// Entries of each virtqueue.
const QUEUE_SIZE: u16 = 256;
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

pub(super) const FEATURES: u64 = feature::NET_CSUM
    | feature::NET_GUEST_CSUM
    | feature::NET_HOST_TSO4
    | feature::NET_GUEST_TSO4
    | feature::NET_HOST_TSO6
    | feature::NET_GUEST_TSO6
    | feature::NET_MRG_RXBUF
    | feature::RING_EVENT_IDX
    | feature::VERSION_1;

/// A network device.
#[derive(Debug)]
pub struct NetDevice {
    pub(super) frames: FrameLink,
    config: NetConfig,
    ipv6: Ipv6Config,
    tag: [u8; 16],
    rings: Option<Rings>,
}

#[derive(Debug)]
struct Rings {
    receiver: Receiver,
    transmitter: Transmitter,
}

impl NetDevice {
    /// Makes a device that exchanges frames with `frames`. `tag` is what the operator calls it; at most
    /// 16 bytes of it are shown to the guest. Makes no system call.
    #[must_use]
    pub fn new(tag: &str, frames: FrameLink, config: NetConfig) -> Self {
        let (tag, ipv6) = (super::super::padded_tag(tag), Ipv6Config::default());
        Self { frames, config, ipv6, tag, rings: None }
    }

    /// The same device with IPv6.
    #[must_use]
    pub fn with_ipv6(self, ipv6: Ipv6Config) -> Self {
        Self { ipv6, ..self }
    }
}

impl Device for NetDevice {
    fn entry(&self) -> TableEntry {
        TableEntry {
            kind: DeviceKind::Net as u32,
            queue_count: 2,
            queue_size_max: QUEUE_SIZE,
            features: FEATURES,
            tag: self.tag,
            net: self.config,
            ..TableEntry::default()
        }
    }

    fn ipv6(&self) -> Ipv6Config {
        self.ipv6
    }

    fn attach(&mut self, ram: &GuestRam, attach: &Attach) -> Result<(), GuestFault> {
        let receive = Virtqueue::new(ram, attach, RECEIVE)?;
        let transmit = Virtqueue::new(ram, attach, TRANSMIT)?;
        self.frames.restrict(attach.features).map_err(|error| {
            receive.fault(format!("its features cannot be had from the TAP interface: {error}"))
        })?;
        self.rings = Some(Rings {
            receiver: Receiver::new(receive, attach.features),
            transmitter: Transmitter::new(transmit, attach.features),
        });
        Ok(())
    }

    fn notify(&mut self, ram: &GuestRam, queue: u16) -> Result<(), GuestFault> {
        let Some(rings) = &mut self.rings else { return Ok(()) };
        if queue == TRANSMIT {
            rings.transmitter.run(ram, &mut self.frames)?;
            self.frames.flush();
        }
        Ok(())
    }

    fn poll(&mut self, ram: &GuestRam) -> Result<bool, GuestFault> {
        let Some(rings) = &mut self.rings else { return Ok(false) };
        self.frames.wake_up();
        rings.transmitter.run(ram, &mut self.frames)?;
        rings.receiver.run(ram, &mut self.frames)?;
        self.frames.flush();
        let received = rings.receiver.queue.needs_notification(ram)?;
        let transmitted = rings.transmitter.queue.needs_notification(ram)?;
        Ok(received || transmitted)
    }

    fn descriptors(&self, descriptors: &mut Vec<RawFd>) {
        self.frames.descriptors(descriptors);
    }

    fn interests(&self, descriptors: &mut Vec<libc::pollfd>) {
        let Some(rings) = &self.rings else { return };
        let (receiver, transmitter) = (&rings.receiver, &rings.transmitter);
        let wants = Wants {
            messages: !receiver.is_starved && !receiver.is_closed,
            room: transmitter.is_blocked,
        };
        descriptors.extend(self.frames.interest(wants));
    }
}
