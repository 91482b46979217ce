//! How many connections have hyper's state at a time, and which of them are told to do without.
//!
//! That state takes many times the memory of a connection at rest. An idle connection keeps it for a
//! moment, as most of the next requests come soon; the many that stay idle give it back.
use crate::connection::Exchange;
use crate::platform::{BlockSource, Clock};
use crate::server::Server;
use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// What a session costs, bytes: hyper's read and write buffers of 8 KiB each, its state, and a small
/// chunk of a file that is read while another is sent. Answers without a session that their client does
/// not take hold as much.
const SESSION_COST: u64 = 24 << 10;

/// Idle connections rest at once while there are more sessions than this, however much memory there
/// is: the state of more would not stay in the processor's caches, and making it anew in memory that
/// was just used costs no more than fetching it.
const WARM_MAX: usize = 256;

/// An idle connection keeps its session for as long at least, and twice as long at most, ns.
const WARM_NS: u64 = 500_000_000;

/// The sessions of a server.
pub(crate) struct Sessions {
    live: Cell<usize>,
    /// [`WARM_MAX`], or half of all.
    warm_max: usize,
    max: usize,
    /// Waits for the first session.
    sweeper: Cell<Option<Waker>>,
}

impl Sessions {
    /// Room for as many sessions as fit into `memory_len` bytes.
    pub(crate) fn new(memory_len: u64) -> Self {
        let max = usize::try_from(memory_len / SESSION_COST).unwrap_or(usize::MAX).max(2);
        Self {
            live: Cell::new(0),
            warm_max: (max / 2).min(WARM_MAX),
            max,
            sweeper: Cell::new(None),
        }
    }

    /// Whether a connection that is idle should rest at once.
    pub(crate) fn are_many(&self) -> bool {
        self.live.get() > self.warm_max
    }

    fn start(&self) -> Session<'_> {
        self.live.set(self.live.get() + 1);
        if let Some(waker) = self.sweeper.take() {
            waker.wake();
        }
        Session(self)
    }
}

/// A place among the sessions.
pub(crate) struct Session<'a>(&'a Sessions);

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.0.live.set(self.0.live.get() - 1);
    }
}

impl<C: Clock, B: BlockSource> Server<C, B> {
    /// Starts a session for a connection. When there are too many, one of an idle connection makes
    /// room; `None` if all are busy.
    pub(crate) fn start_session(&self, exchange: &Exchange) -> Option<Session<'_>> {
        if self.sessions.live.get() >= self.sessions.max {
            self.find_connection(Exchange::is_warm)?.rest();
        }
        exchange.on_session();
        Some(self.sessions.start())
    }

    /// Number of connections with hyper's state.
    #[cfg(test)]
    pub(crate) fn session_count(&self) -> usize {
        self.sessions.live.get()
    }

    /// Takes the sessions of connections that stay idle away; never ends.
    pub async fn rest_idle_connections(self: std::rc::Rc<Self>) {
        loop {
            poll_fn(|cx| {
                if self.sessions.live.get() > 0 {
                    return Poll::Ready(());
                }
                self.sessions.sweeper.set(Some(cx.waker().clone()));
                Poll::Pending
            })
            .await;
            self.clock.sleep_until(self.clock.now_ns().saturating_add(WARM_NS)).await;
            let before_ns = self.clock.now_ns().saturating_sub(WARM_NS);
            self.each_connection(|exchange| {
                if exchange.is_warm() && exchange.is_idle_since(before_ns) {
                    exchange.rest();
                }
            });
            if self.sessions.live.get() == 0 {
                self.contents.shrink();
            }
        }
    }
}
