//! Listening ports with bounded backlogs.
//!
//! A SYN creates the connection, so a flood of SYNs fills a backlog. It cannot do more: in a full
//! backlog, the oldest half-open connection has to go once it had time for an answer. A peer that is
//! really there answers before that; until a place is free, it repeats its SYN.
use crate::connection::ConnectionId;
use crate::slab::{Slab, SlabKey};
use crate::stack::Stack;
use alloc::collections::{BTreeMap, VecDeque};
use core::task::{Context, Poll, Waker};
use hashbrown::HashMap;
use smoltcp::time::{Duration, Instant};

/// Names a listening port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub(crate) SlabKey);

/// How long a connection may stay half-open: long enough for three lost packets.
const HALF_OPEN_LIFETIME: Duration = Duration::from_secs(10);

/// How long a half-open connection is safe from being dropped for another: several round trips on a
/// local network, one on most others.
const EVICTION_AGE: Duration = Duration::from_millis(100);

/// Why a port cannot be listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenError {
    /// Port 0, which is no port.
    InvalidPort,
    /// The port has a listener.
    InUse,
}

impl core::fmt::Display for ListenError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::InvalidPort => "port 0 cannot be listened on",
            Self::InUse => "the port is in use",
        })
    }
}

impl core::error::Error for ListenError {}

#[derive(Debug)]
struct Listener {
    port: u16,
    backlog: usize,
    /// By ordinal, with the time of the SYN.
    half_open: BTreeMap<u64, (SlabKey, Instant)>,
    ready: VecDeque<SlabKey>,
    waker: Option<Waker>,
}

impl Listener {
    /// Takes out the oldest half-open connection, if its age is at least `age`.
    fn oldest_since(&mut self, now: Instant, age: Duration) -> Option<SlabKey> {
        let first = self.half_open.first_entry()?;
        (first.get().1 + age <= now).then(|| first.remove().0)
    }
}

/// The listening ports.
#[derive(Debug)]
pub(crate) struct Listeners {
    slab: Slab<Listener>,
    by_port: HashMap<u16, SlabKey, foldhash::fast::FixedState>,
    next_ordinal: u64,
}

/// What to do with a SYN.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Nobody listens.
    Refused,
    /// Too many connections are half-open or wait to be accepted: the peer is to try again.
    Later,
    /// Take it, under this ordinal, in place of `evicted`.
    Admitted { listener: ListenerId, ordinal: u64, evicted: Option<SlabKey> },
}

impl Listeners {
    pub(crate) fn new(seed: u64) -> Self {
        Self { slab: Slab::new(), by_port: crate::flow::seeded_map(seed), next_ordinal: 0 }
    }

    fn listen(&mut self, port: u16, backlog: usize) -> Result<ListenerId, ListenError> {
        if port == 0 {
            return Err(ListenError::InvalidPort);
        }
        if self.by_port.contains_key(&port) {
            return Err(ListenError::InUse);
        }
        let (half_open, ready) = (BTreeMap::new(), VecDeque::new());
        let listener = Listener { port, backlog: backlog.max(1), half_open, ready, waker: None };
        let key = self.slab.insert(listener).ok_or(ListenError::InUse)?;
        self.by_port.insert(port, key);
        Ok(ListenerId(key))
    }

    /// Decides about a SYN to `port`.
    pub(crate) fn admit(&mut self, port: u16, now: Instant) -> Admission {
        let Some(&key) = self.by_port.get(&port) else { return Admission::Refused };
        let Some(listener) = self.slab.get_mut(key) else { return Admission::Refused };
        if listener.ready.len() >= listener.backlog {
            return Admission::Later;
        }
        let evicted = if listener.half_open.len() < listener.backlog {
            None
        } else if let Some(oldest) = listener.oldest_since(now, EVICTION_AGE) {
            Some(oldest)
        } else {
            return Admission::Later;
        };
        self.next_ordinal += 1;
        Admission::Admitted { listener: ListenerId(key), ordinal: self.next_ordinal, evicted }
    }

    /// Puts an admitted connection into the backlog.
    pub(crate) fn add(&mut self, id: ListenerId, ordinal: u64, connection: SlabKey, now: Instant) {
        if let Some(listener) = self.slab.get_mut(id.0) {
            listener.half_open.insert(ordinal, (connection, now));
        }
    }

    /// Takes a connection out of the backlog, because it is gone.
    pub(crate) fn remove(&mut self, id: ListenerId, ordinal: u64) {
        if let Some(listener) = self.slab.get_mut(id.0) {
            listener.half_open.remove(&ordinal);
        }
    }

    /// Moves a connection from the backlog to those that can be accepted.
    pub(crate) fn establish(&mut self, id: ListenerId, ordinal: u64) {
        let Some(listener) = self.slab.get_mut(id.0) else { return };
        if let Some((connection, _)) = listener.half_open.remove(&ordinal) {
            listener.ready.push_back(connection);
            if let Some(waker) = listener.waker.take() {
                waker.wake();
            }
        }
    }

    /// Takes out one half-open connection whose time is over.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<SlabKey> {
        self.by_port
            .values()
            .find_map(|&key| self.slab.get_mut(key)?.oldest_since(now, HALF_OPEN_LIFETIME))
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let first = |&key| self.slab.get(key)?.half_open.values().next().map(|&(_, at)| at);
        self.by_port.values().filter_map(first).min().map(|at| at + HALF_OPEN_LIFETIME)
    }
}

impl Stack {
    /// Listens on `port`, at all addresses of the interface. `backlog` bounds the half-open
    /// connections, and again those that nobody accepted yet.
    ///
    /// # Errors
    /// The port is 0 or in use.
    pub fn listen(&mut self, port: u16, backlog: usize) -> Result<ListenerId, ListenError> {
        self.listeners.listen(port, backlog)
    }

    /// The next established connection of a listener. `None` if the listener is closed.
    pub fn poll_accept(
        &mut self,
        id: ListenerId,
        cx: &mut Context<'_>,
    ) -> Poll<Option<ConnectionId>> {
        let Some(listener) = self.listeners.slab.get_mut(id.0) else { return Poll::Ready(None) };
        while let Some(key) = listener.ready.pop_front() {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.owner = crate::connection::Owner::Application;
                return Poll::Ready(Some(ConnectionId(key)));
            }
        }
        listener.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Stops listening. Connections that nobody accepted are reset.
    pub fn close_listener(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.slab.remove(id.0) else { return };
        self.listeners.by_port.remove(&listener.port);
        let half_open = listener.half_open.into_values().map(|(key, _)| key);
        for key in listener.ready.into_iter().chain(half_open) {
            self.abort(ConnectionId(key));
            self.release(ConnectionId(key));
        }
        if let Some(waker) = listener.waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(
        listeners: &mut Listeners,
        slab: &mut Slab<()>,
        now: Instant,
    ) -> (u64, Option<SlabKey>) {
        let Admission::Admitted { listener, ordinal, evicted } = listeners.admit(80, now) else {
            panic!("not admitted")
        };
        listeners.add(listener, ordinal, slab.insert(()).unwrap(), now);
        (ordinal, evicted)
    }

    #[test]
    fn a_full_backlog_drops_its_oldest_once_it_had_time() {
        let (mut listeners, mut slab) = (Listeners::new(1), Slab::new());
        listeners.listen(80, 2).unwrap();
        let start = Instant::ZERO;
        assert_eq!(admitted(&mut listeners, &mut slab, start).1, None);
        assert_eq!(admitted(&mut listeners, &mut slab, start).1, None);
        assert_eq!(listeners.admit(80, start), Admission::Later);
        assert!(admitted(&mut listeners, &mut slab, start + EVICTION_AGE).1.is_some());
    }

    #[test]
    fn a_full_queue_makes_peers_wait() {
        let (mut listeners, mut slab) = (Listeners::new(1), Slab::new());
        let id = listeners.listen(80, 1).unwrap();
        let (ordinal, _) = admitted(&mut listeners, &mut slab, Instant::ZERO);
        listeners.establish(id, ordinal);
        assert_eq!(listeners.admit(80, Instant::ZERO), Admission::Later);
        assert_eq!(listeners.admit(81, Instant::ZERO), Admission::Refused);
    }

    #[test]
    fn ports_are_listened_on_once() {
        let mut listeners = Listeners::new(1);
        assert_eq!(listeners.listen(0, 1), Err(ListenError::InvalidPort));
        assert!(listeners.listen(80, 1).is_ok());
        assert_eq!(listeners.listen(80, 1), Err(ListenError::InUse));
    }
}
