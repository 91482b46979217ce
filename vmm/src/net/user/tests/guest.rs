//! A guest for the tests: a stack of its own at the other end of the wire.
use super::super::port::{Inbox, Outbox};
use super::super::{Addresses, Publish, UserNetwork};
use crate::net::wire::{End, Takes, Wants};
use paravane_netstack::{
    Addressing, Addressing6, BufferLimits, Config, ConnectionId, FramePort, Instant, Lease,
    ListenerId, Offloads, Stack, TcpError, TxMeta,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use std::time;

/// Longer than anything takes on a loaded machine.
const PATIENCE: time::Duration = time::Duration::from_secs(60);

const BUFFERS: BufferLimits = BufferLimits {
    rx_min: 4 << 10,
    rx_max: 64 << 10,
    tx_min: 4 << 10,
    tx_max: 64 << 10,
    total: 16 << 20,
};

pub(super) struct Guest {
    pub(super) stack: Stack,
    wire: End,
    inbox: Inbox,
    outbox: Outbox,
    /// Bytes of the longest frame received.
    pub(super) longest: usize,
    started: time::Instant,
}

pub(super) fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl Guest {
    /// A guest with the default address, and its network.
    pub(super) fn new(publish: &[Publish]) -> Self {
        Self::with(publish, Self::usual_addressing(), true)
    }

    /// The default address.
    pub(super) fn usual_addressing() -> Addressing {
        let Addresses { guest, gateway, prefix_len } = Addresses::default();
        Addressing::Static(Lease { address: guest, prefix_len, gateway: Some(gateway), dns: None })
    }

    /// Its driver has offloads, or none.
    pub(super) fn with(publish: &[Publish], addressing: Addressing, has_offloads: bool) -> Self {
        let (network, wire) = UserNetwork::new(Addresses::default(), publish).unwrap();
        network.start().unwrap();
        wire.attach(Takes { partial_checksums: has_offloads, large_segments: has_offloads });
        let config = Config {
            mac: [2, 0, 0, 0, 0, 0x15],
            mtu: 1500,
            offloads: Offloads {
                tx_checksum: has_offloads,
                tx_segmentation: has_offloads,
                tx_segmentation6: false,
            },
            addressing,
            addressing6: Addressing6::Off,
            any_ip: false,
            connections_max: 4096,
            buffers: BUFFERS,
            seed: 1,
        };
        Self {
            stack: Stack::new(config, Instant::ZERO),
            wire,
            inbox: Inbox::new(),
            outbox: Outbox::new(),
            longest: 0,
            started: time::Instant::now(),
        }
    }

    /// Receives and sends what there is, after waiting for it for a moment.
    pub(super) fn turn(&mut self) {
        let now = self.now();
        let mut port = self.outbox.port(&mut self.wire.outgoing);
        while let Some((frame, meta)) = self.inbox.next(&mut self.wire.incoming).unwrap() {
            self.longest = self.longest.max(frame.len());
            self.stack.receive(now, frame, meta, &mut port);
        }
        let room = self.stack.poll(now, &mut port);
        self.wire.wake_peer();
        if self.wire.arm(Wants { messages: true, room }) {
            self.sleep();
        }
    }

    fn sleep(&self) {
        let millisecond = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let bell = PollFd::from_borrowed_fd(self.wire.bell(), PollFlags::IN);
        poll(&mut [bell], Some(&millisecond)).unwrap();
        self.wire.disarm();
        self.wire.silence();
    }

    /// Sends a frame as it is.
    pub(super) fn send(&mut self, frame: &[u8]) {
        let mut port = self.outbox.port(&mut self.wire.outgoing);
        port.buffer(frame.len()).unwrap()[..frame.len()].copy_from_slice(frame);
        port.commit(frame.len(), TxMeta::default());
        self.wire.wake_peer();
    }

    /// Works until `done` gives something.
    pub(super) fn until<T>(&mut self, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let deadline = time::Instant::now() + PATIENCE;
        loop {
            if let Some(result) = done(self) {
                self.turn();
                return result;
            }
            assert!(time::Instant::now() < deadline, "nothing happened");
            self.turn();
        }
    }

    /// The next frame as it is.
    pub(super) fn frame(&mut self) -> Option<Vec<u8>> {
        self.inbox.next(&mut self.wire.incoming).unwrap().map(|(frame, _)| frame.to_vec())
    }

    pub(super) fn accept(&mut self, listener: ListenerId) -> ConnectionId {
        self.until(|guest| match guest.stack.poll_accept(listener, &mut context()) {
            Poll::Ready(connection) => connection,
            Poll::Pending => None,
        })
    }

    pub(super) fn connect(&mut self, to: SocketAddr) -> Result<ConnectionId, TcpError> {
        let id = self.stack.connect(to, None).unwrap();
        self.until(|guest| match guest.stack.poll_connected(id, &mut context()) {
            Poll::Ready(result) => Some(result.map(|()| id)),
            Poll::Pending => None,
        })
    }

    /// Reads to the end.
    pub(super) fn read_all(&mut self, id: ConnectionId) -> Result<Vec<u8>, TcpError> {
        let mut all = Vec::new();
        self.until(|guest| {
            let take = |bytes: &mut [u8]| {
                all.extend_from_slice(bytes);
                (bytes.len(), ())
            };
            match guest.stack.poll_recv(id, &mut context(), take) {
                Poll::Ready(Ok(Some(()))) | Poll::Pending => None,
                Poll::Ready(Ok(None)) => Some(Ok(())),
                Poll::Ready(Err(error)) => Some(Err(error)),
            }
        })?;
        Ok(all)
    }

    /// Writes everything and finishes.
    pub(super) fn write_all(&mut self, id: ConnectionId, mut bytes: &[u8]) {
        self.until(|guest| {
            let give = |room: &mut [u8]| {
                let len = room.len().min(bytes.len());
                room[..len].copy_from_slice(&bytes[..len]);
                (len, len)
            };
            if let Poll::Ready(result) = guest.stack.poll_send(id, &mut context(), give) {
                bytes = &bytes[result.unwrap()..];
            }
            bytes.is_empty().then_some(())
        });
        self.stack.shutdown(id);
        self.turn();
    }

    /// Passes back what comes in on every connection of `listener`, until `done`.
    pub(super) fn echo(&mut self, listener: ListenerId, mut done: impl FnMut() -> bool) {
        let mut connections = Vec::new();
        self.until(|guest| {
            while let Poll::Ready(id) = guest.stack.poll_accept(listener, &mut context()) {
                connections.extend(id);
            }
            connections.retain(|&id| guest.echo_once(id));
            done().then_some(())
        });
    }

    /// Passes back the first bytes of every connection of `listener` and closes it, until `done`.
    pub(super) fn answer_and_close(
        &mut self,
        listener: ListenerId,
        mut done: impl FnMut() -> bool,
    ) {
        let mut connections = Vec::new();
        self.until(|guest| {
            while let Poll::Ready(id) = guest.stack.poll_accept(listener, &mut context()) {
                connections.extend(id);
            }
            connections.retain(|&id| {
                let take = |bytes: &mut [u8]| (bytes.len(), bytes.to_vec());
                let Poll::Ready(received) = guest.stack.poll_recv(id, &mut context(), take) else {
                    return true;
                };
                guest.send_once(id, &received.unwrap().unwrap_or_default());
                guest.stack.release(id);
                false
            });
            done().then_some(())
        });
    }

    fn send_once(&mut self, id: ConnectionId, bytes: &[u8]) {
        let give = |room: &mut [u8]| {
            room[..bytes.len()].copy_from_slice(bytes);
            (bytes.len(), ())
        };
        let sent = self.stack.poll_send(id, &mut context(), give);
        assert!(matches!(sent, Poll::Ready(Ok(()))));
    }

    fn echo_once(&mut self, id: ConnectionId) -> bool {
        let take = |bytes: &mut [u8]| (bytes.len(), bytes.to_vec());
        match self.stack.poll_recv(id, &mut context(), take) {
            Poll::Ready(Ok(Some(bytes))) => {
                self.send_once(id, &bytes);
                true
            }
            Poll::Pending => true,
            Poll::Ready(_) => {
                self.stack.release(id);
                false
            }
        }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(i64::try_from(self.started.elapsed().as_micros()).unwrap())
    }
}
