//! Any-IP mode: the stack stands in for every address that its one guest talks to.
//!
//! A connection is offered to the owner before anything is answered, so that the guest sees
//! "refused" exactly when the real peer refused. Datagrams are handed out and taken back with both
//! their addresses.
use crate::connection::{ConnectionId, Owner};
use crate::flow::{Flow, SeededMap, seeded_map};
use crate::port::FramePort;
use crate::slab::{Slab, SlabKey};
use crate::stack::Stack;
use crate::tcp::control::{PeerSyn, Tcb};
use crate::tcp::segment::Segment;
use crate::tcp::sequence::Seq;
use crate::udp::{Datagram, UdpError};
use alloc::collections::VecDeque;
use core::net::SocketAddr;
use core::task::{Context, Poll, Waker};
use smoltcp::time::Instant;

/// Most connections on offer at a time; more SYNs are dropped, and come again.
const OFFERS_MAX: usize = 256;

/// Most datagrams that wait for the owner.
const DATAGRAMS_MAX: usize = 512;

/// Names a connection on offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PendingId(SlabKey);

/// The SYN of a connection on offer.
#[derive(Debug)]
struct Offer {
    flow: Flow,
    source_mac: [u8; 6],
    syn: PeerSyn,
    /// The sequence number behind it.
    end: Seq,
}

#[derive(Debug)]
pub(crate) struct AnyIp {
    offers: Slab<Offer>,
    by_flow: SeededMap<Flow, SlabKey>,
    /// Offers that nobody has looked at.
    fresh: VecDeque<SlabKey>,
    refused: VecDeque<Offer>,
    datagrams: VecDeque<Datagram>,
    waker: Option<Waker>,
}

impl AnyIp {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            offers: Slab::new(),
            by_flow: seeded_map(seed),
            fresh: VecDeque::new(),
            refused: VecDeque::new(),
            datagrams: VecDeque::new(),
            waker: None,
        }
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.refused.is_empty()
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn take(&mut self, id: PendingId) -> Option<Offer> {
        let offer = self.offers.remove(id.0)?;
        self.by_flow.remove(&offer.flow);
        Some(offer)
    }

    /// Takes a datagram for the owner; drops it if too many wait already.
    pub(crate) fn push_datagram(&mut self, datagram: Datagram) {
        if self.datagrams.len() < DATAGRAMS_MAX {
            self.datagrams.push_back(datagram);
            self.wake();
        }
    }
}

impl Stack {
    /// Puts a connection on offer. A SYN repeated meanwhile changes nothing.
    pub(crate) fn offer(
        &mut self,
        flow: Flow,
        source_mac: [u8; 6],
        segment: &Segment<'_>,
    ) -> Option<()> {
        let any = self.any.as_mut()?;
        if any.by_flow.contains_key(&flow) {
            return Some(());
        }
        if any.offers.len() >= OFFERS_MAX {
            return None;
        }
        let offer = Offer { flow, source_mac, syn: PeerSyn::of(segment), end: segment.end() };
        let key = any.offers.insert(offer)?;
        any.by_flow.insert(flow, key);
        any.fresh.push_back(key);
        any.wake();
        Some(())
    }

    /// The next connection that the guest wants, with the guest as [`Flow::remote`] and the address
    /// that it wants as [`Flow::local`]. It hears nothing until [`accept_pending`](Self::accept_pending)
    /// or [`refuse_pending`](Self::refuse_pending).
    pub fn accept_any(&mut self) -> Option<(PendingId, Flow)> {
        let any = self.any.as_mut()?;
        let key = any.fresh.pop_front()?;
        let flow = any.offers.get(key)?.flow;
        Some((PendingId(key), flow))
    }

    /// Answers the guest's SYN. `None` if there are too many connections: the guest is refused.
    pub fn accept_pending(&mut self, id: PendingId, now: Instant) -> Option<ConnectionId> {
        let offer = self.any.as_mut()?.take(id)?;
        let tcb = Tcb::accept(&self.opening(&offer.flow, now), &offer.syn, now);
        let Some(key) = self.add_connection(offer.flow, tcb, Owner::Application) else {
            self.any.as_mut()?.refused.push_back(offer);
            return None;
        };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.peer_mac = Some(offer.source_mac);
        }
        self.mark_dirty(key);
        Some(ConnectionId(key))
    }

    /// Answers the guest's SYN with a reset, in the next [`poll`](Self::poll).
    pub fn refuse_pending(&mut self, id: PendingId) {
        if let Some(any) = self.any.as_mut()
            && let Some(offer) = any.take(id)
        {
            any.refused.push_back(offer);
        }
    }

    /// The next datagram that the guest sent, to any address: [`Datagram::remote`] is the guest.
    pub fn udp_recv_any(&mut self) -> Option<Datagram> {
        self.any.as_mut()?.datagrams.pop_front()
    }

    /// Sends a datagram to the guest that claims to come from `source`.
    ///
    /// # Errors
    /// The datagram cannot be sent.
    pub fn udp_send_any(
        &mut self,
        source: SocketAddr,
        destination: SocketAddr,
        data: &[u8],
    ) -> Result<(), UdpError> {
        self.queue_datagram(source, destination, data)
    }

    /// Waits for a connection on offer or a datagram.
    pub fn poll_any(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(any) = self.any.as_mut() else { return Poll::Ready(()) };
        if !any.fresh.is_empty() || !any.datagrams.is_empty() {
            return Poll::Ready(());
        }
        any.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Sends the resets of refused connections. Whether they all found room.
    pub(crate) fn send_refusals(&mut self, port: &mut dyn FramePort) -> bool {
        while let Some(offer) = self.any.as_ref().and_then(|any| any.refused.front()) {
            if !self.send_refusal(&offer.flow, None, offer.end, offer.source_mac, port) {
                return false;
            }
            self.any.as_mut().and_then(|any| any.refused.pop_front());
        }
        true
    }
}
