//! Listening ports with bounded backlogs.
//!
//! A SYN makes a small record. When a listener has as many as its backlog allows, further SYNs are
//! answered with cookies, which take no memory: a flood of SYNs keeps nobody out.
use crate::connection::ConnectionId;
use crate::slab::{Slab, SlabKey};
use crate::stack::Stack;
use alloc::collections::VecDeque;
use core::task::{Context, Poll, Waker};
use hashbrown::HashMap;
use smoltcp::time::{Duration, Instant};

/// Names a listening port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub(crate) SlabKey);

/// How long after a cookie its acknowledgement may come: as long as a cookie counts at most.
const COOKIE_LIFETIME: Duration = Duration::from_secs(64);

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
    /// Number of half-open connections.
    half_open: usize,
    ready: VecDeque<SlabKey>,
    waker: Option<Waker>,
    /// Acknowledgements of cookies may come until then.
    cookies_until: Option<Instant>,
}

/// The listening ports.
#[derive(Debug)]
pub(crate) struct Listeners {
    slab: Slab<Listener>,
    by_port: HashMap<u16, SlabKey, foldhash::fast::FixedState>,
}

/// What to do with a SYN.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Nobody listens.
    Refused,
    /// Too many connections wait to be accepted: the peer is to try again.
    Later,
    /// Too many connections are half-open: this one is not to be remembered.
    Cookie,
    /// It has a place among the half-open connections.
    Admitted(ListenerId),
}

impl Listeners {
    pub(crate) fn new(seed: u64) -> Self {
        Self { slab: Slab::new(), by_port: crate::flow::seeded_map(seed) }
    }

    fn listen(&mut self, port: u16, backlog: usize) -> Result<ListenerId, ListenError> {
        if port == 0 {
            return Err(ListenError::InvalidPort);
        }
        if self.by_port.contains_key(&port) {
            return Err(ListenError::InUse);
        }
        let listener = Listener {
            port,
            backlog: backlog.max(1),
            half_open: 0,
            ready: VecDeque::new(),
            waker: None,
            cookies_until: None,
        };
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
        if listener.half_open >= listener.backlog {
            listener.cookies_until = Some(now + COOKIE_LIFETIME);
            return Admission::Cookie;
        }
        listener.half_open += 1;
        Admission::Admitted(ListenerId(key))
    }

    /// A half-open connection is none any more.
    pub(crate) fn forget(&mut self, id: ListenerId) {
        if let Some(listener) = self.slab.get_mut(id.0) {
            listener.half_open -= 1;
        }
    }

    /// Whether a connection can wait to be accepted.
    pub(crate) fn has_room(&self, id: ListenerId) -> bool {
        self.slab.get(id.0).is_some_and(|listener| listener.ready.len() < listener.backlog)
    }

    /// The listener of `port`, if it has sent cookies that may be acknowledged now.
    pub(crate) fn sent_cookies(&self, port: u16, now: Instant) -> Option<ListenerId> {
        let &key = self.by_port.get(&port)?;
        let listener = self.slab.get(key)?;
        listener.cookies_until.is_some_and(|until| now <= until).then_some(ListenerId(key))
    }

    /// Adds a connection that can be accepted.
    pub(crate) fn establish(&mut self, id: ListenerId, connection: SlabKey) {
        let Some(listener) = self.slab.get_mut(id.0) else { return };
        listener.ready.push_back(connection);
        if let Some(waker) = listener.waker.take() {
            waker.wake();
        }
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

    /// Stops listening. Connections that nobody accepted are reset; half-open ones are forgotten.
    pub fn close_listener(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.slab.remove(id.0) else { return };
        self.listeners.by_port.remove(&listener.port);
        self.forget_half_open_of(id);
        for key in listener.ready {
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

    #[test]
    fn behind_a_full_backlog_there_are_cookies() {
        let mut listeners = Listeners::new(1);
        let id = listeners.listen(80, 2).unwrap();
        let start = Instant::ZERO;
        for _ in 0..2 {
            assert_eq!(listeners.sent_cookies(80, start), None);
            assert_eq!(listeners.admit(80, start), Admission::Admitted(id));
        }
        assert_eq!(listeners.admit(80, start), Admission::Cookie);
        assert_eq!(listeners.sent_cookies(80, start + COOKIE_LIFETIME), Some(id));
        assert_eq!(listeners.sent_cookies(80, start + COOKIE_LIFETIME * 2), None);
        listeners.forget(id);
        assert_eq!(listeners.admit(80, start), Admission::Admitted(id));
    }

    #[test]
    fn a_full_queue_makes_peers_wait() {
        let (mut listeners, mut slab) = (Listeners::new(1), Slab::new());
        let id = listeners.listen(80, 1).unwrap();
        assert!(listeners.has_room(id));
        listeners.establish(id, slab.insert(()).unwrap());
        assert!(!listeners.has_room(id));
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
