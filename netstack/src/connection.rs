//! One TCP connection, and what the stack knows of it besides its protocol.
use crate::flow::Flow;
use crate::slab::SlabKey;
use crate::tcp::control::{State, Tcb};
use crate::timer::Deadline;
use smoltcp::time::{Duration, Instant};

/// Names a TCP connection. Never names another one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub(crate) SlabKey);

/// How long a peer may be silent while we wait for its answer: to a SYN ...
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// ... to data (RFC 9293, 3.9.1.1: five minutes) ...
const DATA_PATIENCE: Duration = Duration::from_secs(300);
/// ... and for it to finish after both we and the application have.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(60);

/// How far a connection is on its way to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Established, not accepted yet.
    Queue,
    /// The application has its name.
    Application,
    /// The application has let go of it.
    Nobody,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) tcb: Tcb,
    pub(crate) flow: Flow,
    /// Where the peer's last frame came from.
    pub(crate) peer_mac: Option<[u8; 6]>,
    pub(crate) owner: Owner,
    /// In the queue of connections to poll.
    pub(crate) is_dirty: bool,
    pub(crate) deadline: Deadline,
    /// Since when we wait for the peer to say anything.
    waiting_since: Option<Instant>,
}

impl Connection {
    pub(crate) fn new(tcb: Tcb, flow: Flow, owner: Owner) -> Self {
        Self {
            tcb,
            flow,
            peer_mac: None,
            owner,
            is_dirty: false,
            deadline: Deadline::default(),
            waiting_since: None,
        }
    }

    /// How long the peer may be silent now, if we wait for it.
    fn patience(&self) -> Option<Duration> {
        match self.tcb.state() {
            State::SynSent | State::SynReceived => Some(CONNECT_PATIENCE),
            State::Closed | State::TimeWait => None,
            State::FinWait1 | State::Closing | State::LastAck => Some(DATA_PATIENCE),
            State::FinWait2 if self.owner == Owner::Nobody => Some(ORPHAN_PATIENCE),
            _ => (self.tcb.unacknowledged_len() > 0).then_some(DATA_PATIENCE),
        }
    }

    /// The peer said something.
    pub(crate) fn heard(&mut self, now: Instant) {
        if self.waiting_since.is_some() {
            self.waiting_since = Some(now);
        }
    }

    /// When our patience with the peer ends, if we wait for it.
    pub(crate) fn patience_ends(&mut self, now: Instant) -> Option<Instant> {
        let Some(patience) = self.patience() else {
            self.waiting_since = None;
            return None;
        };
        Some(*self.waiting_since.get_or_insert(now) + patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An idle connection has no more than this and its entry in the demultiplexer.
    #[test]
    fn an_idle_connection_is_small() {
        let entry = size_of::<(Flow, SlabKey)>() * 2; // The map is half empty at worst.
        let size = size_of::<Connection>() + entry;
        assert!(size <= 640, "{size} bytes");
    }
}
