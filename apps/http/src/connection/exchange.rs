//! Where a connection is in its exchanges, and by when it has to move on.
use crate::access_log::Record;
use crate::config::Timeouts;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::task::Waker;

/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;

/// What the server waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The first byte of a request head.
    Idle,
    /// The rest of a request head.
    Head,
    /// A request body.
    Body,
    /// Itself, or the client taking the response.
    Answer,
    /// The client closing the connection.
    Leaving,
}

/// The waiting times, ns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    head_ns: u64,
    body_ns: u64,
    idle_ns: u64,
    write_ns: u64,
}

impl From<&Timeouts> for Waits {
    fn from(timeouts: &Timeouts) -> Self {
        let ns = |seconds| u64::from(seconds) * 1_000_000_000;
        Self {
            head_ns: ns(timeouts.header_seconds),
            body_ns: ns(timeouts.body_seconds),
            idle_ns: ns(timeouts.idle_seconds),
            write_ns: ns(timeouts.write_seconds),
        }
    }
}

/// The state of one connection, shared by its stream, its request handler and its driver.
///
/// All deadlines are kept here and looked at by one lazy timer: a request costs two stores instead of
/// two timers.
#[derive(Debug)]
pub(crate) struct Exchange {
    waits: Waits,
    phase: Cell<Phase>,
    phase_deadline_ns: Cell<u64>,
    write_deadline_ns: Cell<u64>,
    /// The response's body has been handed over in full or given up.
    body_done: Cell<bool>,
    /// A chunk of a streamed body is on its way to the transport.
    chunk_unsent: Cell<bool>,
    /// The latest piece of a body, for as long as it may be sent from where it is.
    loan: RefCell<Bytes>,
    /// The body has been asked for another one meanwhile.
    chunk_wanted: Cell<bool>,
    /// The response under way is the last one.
    closing: Cell<bool>,
    /// hyper has turned the request away by itself.
    refused: Cell<bool>,
    evicted: Cell<bool>,
    /// hyper's state exists.
    in_session: Cell<bool>,
    /// It is to be given up when nothing is under way.
    resting: Cell<bool>,
    /// The log line of the request under way, until its response is made.
    record: RefCell<Option<Box<Record>>>,
    waker: RefCell<Option<Waker>>,
}

impl Exchange {
    pub(crate) fn new(waits: Waits, now_ns: u64) -> Self {
        Self {
            waits,
            phase: Cell::new(Phase::Idle),
            phase_deadline_ns: Cell::new(now_ns.saturating_add(waits.head_ns)),
            write_deadline_ns: Cell::new(NEVER),
            body_done: Cell::new(false),
            chunk_unsent: Cell::new(false),
            loan: RefCell::new(Bytes::new()),
            chunk_wanted: Cell::new(false),
            closing: Cell::new(false),
            refused: Cell::new(false),
            evicted: Cell::new(false),
            in_session: Cell::new(false),
            resting: Cell::new(false),
            record: RefCell::new(None),
            waker: RefCell::new(None),
        }
    }

    /// For how long a client may take none of its data, ns.
    pub(crate) fn write_ns(&self) -> u64 {
        self.waits.write_ns
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// The time by which something must have happened.
    pub(crate) fn deadline_ns(&self) -> u64 {
        self.phase_deadline_ns.get().min(self.write_deadline_ns.get())
    }

    /// Whether the client has not taken any of its response for too long.
    pub(crate) fn is_write_stalled(&self, now_ns: u64) -> bool {
        self.write_deadline_ns.get() <= now_ns
    }

    /// Bytes have come in.
    pub(crate) fn on_read(&self, now_ns: u64) {
        if self.phase.get() == Phase::Idle {
            self.enter(Phase::Head, now_ns.saturating_add(self.waits.head_ns));
        }
    }

    /// A whole request head is there; `record` is the beginning of its log line.
    pub(crate) fn on_request(&self, record: Option<Box<Record>>) {
        self.record.replace(record);
        self.body_done.set(false);
        self.chunk_unsent.set(false);
        self.enter(Phase::Answer, NEVER);
    }

    /// Takes the log line of the request under way.
    pub(crate) fn take_record(&self) -> Option<Box<Record>> {
        self.record.take()
    }

    /// The request announces a body, which is read now.
    pub(crate) fn on_body_started(&self, now_ns: u64) {
        self.enter(Phase::Body, now_ns.saturating_add(self.waits.body_ns));
    }

    /// The request body is there.
    pub(crate) fn on_body_read(&self) {
        self.enter(Phase::Answer, NEVER);
    }

    /// The response's body ended, was given up, or there is none.
    pub(crate) fn on_body_done(&self) {
        self.body_done.set(true);
    }

    /// Whether the next chunk of a streamed body may be handed over. hyper would collect several: one
    /// at a time bounds what a slow client holds.
    pub(crate) fn may_send_chunk(&self) -> bool {
        let unsent = self.chunk_unsent.get();
        self.chunk_wanted.set(unsent);
        !unsent
    }

    /// A chunk of a streamed body was handed over.
    pub(crate) fn on_chunk(&self) {
        self.chunk_unsent.set(true);
    }

    /// All chunks are on their way. Returns whether the body waits for that.
    pub(crate) fn on_chunk_sent(&self) -> bool {
        self.chunk_unsent.set(false);
        if !self.loan.borrow().is_empty() {
            self.lend(&Bytes::new());
        }
        self.chunk_wanted.replace(false)
    }

    /// A piece of a body is handed to hyper, which shows it to the stream later.
    pub(crate) fn lend(&self, bytes: &Bytes) {
        self.loan.replace(bytes.clone());
    }

    /// The bytes of `slice` with what owns them, if it lies in the piece that was lent last.
    pub(crate) fn loan(&self, slice: &[u8]) -> Option<Bytes> {
        let lent = self.loan.borrow();
        let start = slice.as_ptr().addr().checked_sub(lent.as_ptr().addr())?;
        let end = start.checked_add(slice.len())?;
        (end <= lent.len()).then(|| lent.slice(start..end))
    }

    /// The client's receive window is full.
    pub(crate) fn on_write_blocked(&self, now_ns: u64) {
        if self.write_deadline_ns.get() == NEVER {
            self.write_deadline_ns.set(now_ns.saturating_add(self.waits.write_ns));
        }
    }

    /// The client takes data.
    pub(crate) fn on_written(&self) {
        self.write_deadline_ns.set(NEVER);
    }

    /// Whether [`Exchange::on_flushed`] would end an exchange.
    pub(crate) fn is_ending(&self) -> bool {
        self.phase.get() == Phase::Answer && self.body_done.get()
    }

    /// The response under way is the last one, and says so.
    pub(crate) fn on_closing(&self) {
        self.closing.set(true);
    }

    /// All that was to be sent is on its way.
    pub(crate) fn on_flushed(&self, now_ns: u64) {
        if self.closing.get() {
            self.enter(Phase::Leaving, now_ns.saturating_add(self.waits.write_ns));
        } else {
            self.enter(Phase::Idle, now_ns.saturating_add(self.waits.idle_ns));
        }
    }

    /// hyper turns the request under way away by itself.
    pub(crate) fn on_refused(&self) {
        self.refused.set(true);
    }

    /// Whether hyper has turned a request away by itself.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.get()
    }

    /// HTTP is over on this connection.
    pub(crate) fn leave(&self) {
        self.enter(Phase::Leaving, NEVER);
    }

    /// For how long nothing is asked of the connection, if so: the earlier the deadline, the longer.
    pub(crate) fn idle_deadline_ns(&self) -> Option<u64> {
        (self.phase.get() == Phase::Idle && !self.evicted.get())
            .then(|| self.phase_deadline_ns.get())
    }

    /// Whether nothing has been asked of the connection since a time.
    pub(crate) fn is_idle_since(&self, time_ns: u64) -> bool {
        self.phase.get() == Phase::Idle
            && self.phase_deadline_ns.get() <= time_ns.saturating_add(self.waits.idle_ns)
    }

    /// A session starts.
    pub(crate) fn on_session(&self) {
        self.in_session.set(true);
        self.resting.set(false);
    }

    /// The session is over.
    pub(crate) fn on_rest(&self) {
        self.in_session.set(false);
    }

    /// Whether an idle connection has a session, and was not told to give it up.
    pub(crate) fn is_warm(&self) -> bool {
        self.phase.get() == Phase::Idle && self.in_session.get() && !self.resting.get()
    }

    /// Tells the driver to give up the session of an idle connection.
    pub(crate) fn rest(&self) {
        self.resting.set(true);
        self.wake();
    }

    /// Whether the session is to be given up.
    pub(crate) fn is_to_rest(&self) -> bool {
        self.resting.get() || self.evicted.get()
    }

    /// Tells the driver to close the connection, to make room for another.
    pub(crate) fn evict(&self) {
        self.evicted.set(true);
        self.wake();
    }

    pub(crate) fn is_evicted(&self) -> bool {
        self.evicted.get()
    }

    /// Remembers whom [`Exchange::wake`] wakes.
    pub(crate) fn set_waker(&self, waker: &Waker) {
        let mut mine = self.waker.borrow_mut();
        match &mut *mine {
            Some(mine) => mine.clone_from(waker),
            None => *mine = Some(waker.clone()),
        }
    }

    /// Wakes the connection's driver, which looks at everything anew.
    pub(crate) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn enter(&self, phase: Phase, deadline_ns: u64) {
        self.phase.set(phase);
        self.phase_deadline_ns.set(deadline_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_slice_is_known_by_where_it_lies() {
        let exchange = Exchange::new(Waits::from(&Config::default().timeouts), 0);
        let piece = Bytes::from(vec![7; 3000]);
        let lent = piece.slice(1000..2000);
        assert_eq!(exchange.loan(&lent), None, "nothing is lent");
        exchange.lend(&lent);
        assert_eq!(exchange.loan(&lent), Some(lent.clone()));
        let part = exchange.loan(&piece[1500..1600]).unwrap();
        assert_eq!(part.as_ptr(), piece[1500..].as_ptr());
        for range in [999..1100, 1900..2001, 0..10, 2500..2600, 0..3000] {
            assert_eq!(exchange.loan(&piece[range]), None);
        }
        assert_eq!(exchange.loan(&[7; 10]), None);
        exchange.on_chunk_sent();
        assert_eq!(exchange.loan(&lent), None);
    }
}
