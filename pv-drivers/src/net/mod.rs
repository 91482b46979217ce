//! The network front-end (virtio 1.2, 5.1): whole Ethernet frames in and out, without a copy.
//!
//! Frames are received into buffers that lie one behind the other, of which a large one takes several
//! (`MRG_RXBUF`), and the frames' owner gives them back; frames to send are written in place, or are headers and shared bytes
//! that the device reads where they are. Checksums and the cutting of
//! large TCP segments are left to the device where it offers that.
//!
//! ```text
//! loop {
//!     while let Some(frame) = net.receive()? { .. net.recycle(frame) }
//!     while let Some(mut buffer) = net.transmit_buffer(len) { .. net.commit(buffer, meta)? }
//!     net.flush();                            // one notification at most for each queue
//!     if nothing_to_do && !net.enable_events() { wait() }
//! }
//! ```
mod header;
mod receive;
mod transmit;

pub use header::{Checksum, FrameMeta, Segmentation};
pub use receive::RxFrame;
pub use transmit::{SMALL_FRAME_LEN_MAX, TxBuffer};

use crate::transport::{attach, negotiate};
use crate::{AttachError, Dma, RingFault, Transport, VirtQueue};
use bytes::Bytes;
use core::fmt;
use header::HEADER_LEN;
use paravane_abi::device::{Device, DeviceKind, NetConfig, feature};
use receive::{BUFFER_ALIGN, FRAME_LEN_MAX, Receiver};
use transmit::Transmitter;

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

/// Most entries of either queue: with 2 KiB buffers, half a MiB is posted for receiving.
const QUEUE_SIZE: u16 = 256;
/// Bytes of a receive buffer, unless a frame of the device's MTU needs more.
const RX_BUFFER_SIZE: usize = 2048;
/// Ethernet header with a VLAN tag, bytes.
const LINK_HEADER_LEN: usize = 18;

/// What a network device did wrong. The device is dead from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetFault {
    /// A used ring is broken.
    Ring(RingFault),
    /// A received frame is too short for its header.
    Short,
    /// A received frame is longer than any Ethernet frame with an IP packet.
    Long,
    /// A received frame has a kind of segmentation that was not negotiated.
    Segmentation(u8),
}

/// Why a frame was not sent. It is dropped, as a network may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransmitError {
    /// The frame asks for an offload that the device does not offer.
    NotNegotiated,
    /// The frame is longer than any can be.
    Long,
    /// No room; does not happen to who [commits](Net::commit) and has two buffers at a time at most.
    Full,
}

/// A network device in use.
pub struct Net<D: Dma, T: Transport> {
    dma: D,
    transport: T,
    index: u32,
    features: u64,
    config: NetConfig,
    receiver: Receiver<D>,
    transmitter: Transmitter<D>,
    fault: Option<NetFault>,
}

impl<D: Dma, T: Transport> Net<D, T> {
    /// Takes entry `index` of the device table into use and posts its receive buffers.
    ///
    /// # Errors
    /// The entry is not of a network device of virtio 1.x, memory ran out, or the host refused.
    pub fn new(dma: D, transport: T, index: u32, device: &Device) -> Result<Self, AttachError> {
        if device.kind != DeviceKind::Net as u32 || device.queue_count != 2 {
            return Err(AttachError::Device);
        }
        let features = negotiate(device, wanted(device.features))?;
        let size = QUEUE_SIZE.min(device.queue_size_max);
        let receive = VirtQueue::new(&dma, size, features).ok_or(AttachError::Memory)?;
        let transmit = VirtQueue::new(&dma, size, features).ok_or(AttachError::Memory)?;
        let mergeable = features & feature::NET_MRG_RXBUF != 0;
        let receiver = Receiver::new(receive, rx_buffer_size(device.net.mtu), mergeable);
        let transmitter = Transmitter::new(transmit);
        let setups = [receiver.setup(), transmitter.setup()];
        // SAFETY: the rings belong to the two queues, which never give them back.
        unsafe { attach(&transport, index, features, &setups) }?;
        let config = device.net;
        let fault = None;
        let mut net =
            Self { dma, transport, index, features, config, receiver, transmitter, fault };
        net.flush();
        Ok(net)
    }

    /// Addresses and MTU, as the host gave them.
    #[must_use]
    pub fn config(&self) -> &NetConfig {
        &self.config
    }

    /// Index in the device table: the bit of the device in the event mask of `WAIT`.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Whether frames may be sent with [`Checksum::Partial`].
    #[must_use]
    pub fn completes_checksums(&self) -> bool {
        self.features & feature::NET_CSUM != 0
    }

    /// Whether frames of IPv4 may be sent with [`FrameMeta::segmentation`].
    #[must_use]
    pub fn segments_tcp(&self) -> bool {
        self.features & feature::NET_HOST_TSO4 != 0
    }

    /// Whether frames of IPv6 may be sent with [`FrameMeta::segmentation`].
    #[must_use]
    pub fn segments_tcp6(&self) -> bool {
        self.features & feature::NET_HOST_TSO6 != 0
    }

    /// The next received frame.
    ///
    /// # Errors
    /// What the device did wrong in either direction, now or earlier.
    pub fn receive(&mut self) -> Result<Option<RxFrame<D>>, NetFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let received = self.receiver.receive();
        self.fault = received.as_ref().err().copied();
        received
    }

    /// Takes the buffers of a frame back; the next [`flush`](Self::flush) posts them again.
    pub fn recycle(&mut self, frame: RxFrame<D>) {
        self.receiver.recycle(frame);
    }

    /// A buffer for a frame of `len` bytes, Ethernet header included. `None` while too much is in
    /// flight (then [`enable_events`](Self::enable_events) asks for the event of the next frame
    /// sent), memory is short, `len` is longer than any frame, or the device is dead.
    pub fn transmit_buffer(&mut self, len: usize) -> Option<TxBuffer<D>> {
        if self.fault.is_some() {
            return None;
        }
        self.transmitter.buffer(&self.dma, len).unwrap_or_else(|fault| {
            self.fault = Some(fault);
            None
        })
    }

    /// Queues a frame; the next [`flush`](Self::flush) sends it.
    ///
    /// # Errors
    /// Why the frame was dropped.
    pub fn commit(&mut self, frame: TxBuffer<D>, meta: FrameMeta) -> Result<(), TransmitError> {
        self.check(meta)?;
        if self.transmitter.add(&self.dma, frame, meta) { Ok(()) } else { Err(TransmitError::Full) }
    }

    /// Queues a frame of `head`, which has all its headers, and the pieces of `body` behind it; the next
    /// [`flush`](Self::flush) sends it. Long pieces are not copied: the device reads them where they are,
    /// and the driver is one of their users until it has; pieces that the device cannot reach are copied.
    ///
    /// # Errors
    /// Why the frame was not queued. With [`TransmitError::Full`] it can be tried again:
    /// [`enable_events`](Self::enable_events) asks for the event, as after
    /// [`transmit_buffer`](Self::transmit_buffer).
    pub fn send(
        &mut self,
        head: &[u8],
        body: &[Bytes],
        meta: FrameMeta,
    ) -> Result<(), TransmitError> {
        self.check(meta)?;
        if head.len() + body.iter().map(Bytes::len).sum::<usize>() > FRAME_LEN_MAX {
            return Err(TransmitError::Long);
        }
        if self.fault.is_some() {
            return Err(TransmitError::Full);
        }
        match self.transmitter.send(&self.dma, head, body, meta) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(fault) => self.fault = Some(fault),
        }
        Err(TransmitError::Full)
    }

    fn segments(&self, segmentation: Segmentation) -> bool {
        if segmentation.is_ipv6 { self.segments_tcp6() } else { self.segments_tcp() }
    }

    /// Whether the device can do what the frame asks for.
    fn check(&self, meta: FrameMeta) -> Result<(), TransmitError> {
        let partial = matches!(meta.checksum, Checksum::Partial { .. });
        if partial && !self.completes_checksums()
            || meta.segmentation.is_some_and(|s| !self.segments(s))
        {
            return Err(TransmitError::NotNegotiated);
        }
        Ok(())
    }

    /// Shows the device what was queued and recycled since the last call, and notifies it if it
    /// wants that. Gives up shared bytes that the device has read.
    pub fn flush(&mut self) {
        if self.fault.is_none() {
            self.fault = self.transmitter.release_shared().err();
        }
        if self.transmitter.publish() {
            self.transport.notify(self.index, TRANSMIT);
        }
        if self.fault.is_none() && self.receiver.refill(&self.dma) {
            self.transport.notify(self.index, RECEIVE);
        }
    }

    /// Asks for an event when a frame comes in, or, if [`transmit_buffer`](Self::transmit_buffer)
    /// refused since the last call, when one was sent. Returns whether that has happened already:
    /// then there is work, and no event may come for it.
    #[must_use = "waiting although there is work may be waiting for ever"]
    pub fn enable_events(&mut self) -> bool {
        let received = self.receiver.enable_events();
        let sent = self.transmitter.enable_events();
        received || sent
    }

    /// Whether the device has put something into the receive queue that was not taken yet.
    #[must_use]
    pub fn has_received(&self) -> bool {
        self.receiver.has_used()
    }
}

impl<D: Dma, T: Transport> fmt::Debug for Net<D, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net")
            .field("index", &self.index)
            .field("features", &self.features)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

/// The features worth having among those offered. Offloads depend on each other (5.1.3.1), and
/// receiving large segments into small buffers depends on merging them.
fn wanted(offered: u64) -> u64 {
    let has = |bits| offered & bits == bits;
    let mut wanted = feature::RING_EVENT_IDX | feature::NET_MRG_RXBUF;
    wanted |= feature::NET_CSUM | feature::NET_GUEST_CSUM;
    if has(feature::NET_CSUM) {
        wanted |= feature::NET_HOST_TSO4 | feature::NET_HOST_TSO6;
    }
    if has(feature::NET_GUEST_CSUM | feature::NET_MRG_RXBUF) {
        wanted |= feature::NET_GUEST_TSO4 | feature::NET_GUEST_TSO6;
    }
    wanted
}

/// Bytes of a buffer that takes a frame of the given MTU with all headers.
fn rx_buffer_size(mtu: u16) -> usize {
    (HEADER_LEN + LINK_HEADER_LEN + usize::from(mtu))
        .next_multiple_of(BUFFER_ALIGN)
        .max(RX_BUFFER_SIZE)
}
