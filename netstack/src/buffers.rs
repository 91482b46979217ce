//! How much memory each TCP connection gets.
use alloc::vec::Vec;
use core::task::Waker;
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};

/// Sizes of the buffers of TCP connections, bytes.
///
/// smoltcp's buffers keep their size, so the size is chosen when a connection starts: a fixed share
/// of what is left of `total`. A few connections get buffers fit for bulk transfers, thousands get
/// the smallest ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferLimits {
    /// Smallest receive buffer.
    pub rx_min: usize,
    /// Largest receive buffer; never more than 65535.
    pub rx_max: usize,
    /// Smallest transmit buffer.
    pub tx_min: usize,
    /// Largest transmit buffer.
    pub tx_max: usize,
    /// What all buffers together should take; exceeded only by connections with the smallest ones.
    pub total: usize,
}

/// One connection gets this part of the memory that is left.
const SHARE: usize = 32;

/// A receive buffer is this part of the transmit buffer, within its limits: servers mostly send.
const RX_PER_TX: usize = 4;

/// Largest receive buffer: windows that need no scaling. smoltcp takes the window of its own SYN, which
/// is never scaled, for a scaled one; with a shift above 0, a peer could overrun the buffer.
const RX_LEN_MAX: usize = 65535;

/// Sockets that came back are kept for new connections, as clearing the buffers of a new socket costs
/// more than all the rest of a short connection: up to this part of the memory that is left ...
const IDLE_SHARE: usize = 2;

/// ... and until none has come or gone for so long.
const IDLE_TIME: Duration = Duration::from_secs(10);

/// Hands out sockets with their buffers, and knows how much is out.
#[derive(Debug)]
pub(crate) struct BufferBudget {
    limits: BufferLimits,
    used: usize,
    /// Sockets that came back, and the bytes of their buffers.
    idle: Vec<tcp::Socket<'static>>,
    idle_len: usize,
    /// When they are dropped; unknown since the last one came or went.
    idle_until: Option<Instant>,
}

impl BufferBudget {
    pub(crate) fn new(limits: BufferLimits) -> Self {
        Self { limits, used: 0, idle: Vec::new(), idle_len: 0, idle_until: None }
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// A closed socket, to give back with [`release`](Self::release). It is a smaller one than the
    /// connection's due if there is no memory for that, and `None` if there is not even memory for the
    /// smallest.
    pub(crate) fn socket(&mut self) -> Option<tcp::Socket<'static>> {
        let mut tx = self.tx_len();
        let socket = loop {
            if let Some(socket) = self.take_idle(tx).or_else(|| self.new_socket(tx)) {
                break socket;
            }
            if tx <= self.limits.tx_min {
                return None;
            }
            tx = (tx / 2).max(self.limits.tx_min);
        };
        self.used += buffer_len(&socket);
        Some(socket)
    }

    fn new_socket(&self, tx: usize) -> Option<tcp::Socket<'static>> {
        let (rx, tx) = (zeroed(self.rx_len(tx))?, zeroed(tx)?);
        Some(tcp::Socket::new(tcp::SocketBuffer::new(rx), tcp::SocketBuffer::new(tx)))
    }

    /// A socket that came back whose transmit buffer has `tx` bytes, or half of that.
    fn take_idle(&mut self, tx: usize) -> Option<tcp::Socket<'static>> {
        let fits = |socket: &tcp::Socket<'_>| (tx / 2..=tx).contains(&socket.send_capacity());
        let index = self.idle.iter().rposition(fits)?;
        let socket = self.idle.swap_remove(index);
        self.idle_len -= buffer_len(&socket);
        self.idle_until = None;
        Some(socket)
    }

    /// Takes a socket back. The next connection's `listen` or `connect` resets it.
    pub(crate) fn release(&mut self, mut socket: tcp::Socket<'static>) {
        let len = buffer_len(&socket);
        self.used -= len;
        let left = self.limits.total.saturating_sub(self.used);
        if self.idle_len + len <= left / IDLE_SHARE {
            socket.abort();
            // Whoever waited does not any more, and is not to be kept alive by the wait.
            socket.register_recv_waker(Waker::noop());
            socket.register_send_waker(Waker::noop());
            self.idle_len += len;
            self.idle.push(socket);
            self.idle_until = None;
        }
    }

    /// Drops the sockets that came back when nobody has wanted one for a while.
    pub(crate) fn expire(&mut self, now: Instant) {
        if now >= *self.idle_until.get_or_insert(now + IDLE_TIME) {
            self.idle = Vec::new();
            self.idle_len = 0;
        }
    }

    /// When to call [`expire`](Self::expire).
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        (!self.idle.is_empty()).then_some(self.idle_until.unwrap_or(Instant::ZERO))
    }

    /// The transmit buffer that a new connection is due.
    fn tx_len(&self) -> usize {
        let share = self.limits.total.saturating_sub(self.used) / SHARE;
        power_of_two_below(share).clamp(self.limits.tx_min, self.limits.tx_max)
    }

    /// The receive buffer that goes with a transmit buffer of `tx` bytes.
    fn rx_len(&self, tx: usize) -> usize {
        (tx / RX_PER_TX).clamp(self.limits.rx_min, self.limits.rx_max).min(RX_LEN_MAX)
    }
}

/// A buffer of `len` bytes, if there is memory for it.
fn zeroed(len: usize) -> Option<Vec<u8>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).ok()?;
    buffer.resize(len, 0);
    Some(buffer)
}

fn buffer_len(socket: &tcp::Socket<'_>) -> usize {
    socket.recv_capacity() + socket.send_capacity()
}

fn power_of_two_below(value: usize) -> usize {
    if value == 0 { 0 } else { 1 << value.ilog2() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BufferLimits = BufferLimits {
        rx_min: 4 << 10,
        rx_max: 64 << 10,
        tx_min: 4 << 10,
        tx_max: 1 << 20,
        total: 16 << 20,
    };

    fn lengths(socket: &tcp::Socket<'_>) -> (usize, usize) {
        (socket.recv_capacity(), socket.send_capacity())
    }

    #[test]
    fn the_first_is_rich_the_thousandth_is_poor() {
        let mut budget = BufferBudget::new(LIMITS);
        assert_eq!(lengths(&budget.socket().unwrap()), (RX_LEN_MAX, 512 << 10));
        for _ in 0..1000 {
            budget.socket().unwrap();
        }
        assert_eq!(lengths(&budget.socket().unwrap()), (4 << 10, 4 << 10));
        assert!(budget.used() < LIMITS.total + 1000 * (8 << 10));
    }

    #[test]
    fn without_memory_there_is_no_socket() {
        let huge = 1 << 60;
        let limits = BufferLimits { tx_min: huge, tx_max: huge, total: huge, ..LIMITS };
        let mut budget = BufferBudget::new(limits);
        assert!(budget.socket().is_none());
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_is_given_back_is_there_again() {
        let mut budget = BufferBudget::new(LIMITS);
        let socket = budget.socket().unwrap();
        assert_eq!(budget.used(), buffer_len(&socket));
        budget.release(socket);
        assert_eq!(budget.used(), 0);
        budget.socket().unwrap();
        assert!(budget.idle.is_empty(), "the socket was not used again");
    }

    #[test]
    fn a_rich_connection_gets_no_poor_socket() {
        let mut budget = BufferBudget::new(LIMITS);
        let sockets: Vec<_> = (0..1000).map(|_| budget.socket().unwrap()).collect();
        sockets.into_iter().rev().for_each(|socket| budget.release(socket));
        assert!(budget.idle_len <= LIMITS.total / IDLE_SHARE);
        assert!(budget.idle.iter().any(|socket| socket.send_capacity() == LIMITS.tx_min));
        assert!(budget.socket().unwrap().send_capacity() >= 256 << 10);
    }

    #[test]
    fn idle_sockets_go_after_a_while() {
        let mut budget = BufferBudget::new(LIMITS);
        let at = Instant::from_secs;
        let [first, second] = [budget.socket().unwrap(), budget.socket().unwrap()];
        assert_eq!(budget.next_deadline(), None);
        budget.release(first);
        assert_eq!(budget.next_deadline(), Some(Instant::ZERO));
        budget.expire(at(1));
        assert_eq!(budget.next_deadline(), Some(at(11)));
        budget.release(second);
        budget.expire(at(11));
        assert_eq!((budget.idle.len(), budget.next_deadline()), (2, Some(at(21))));
        budget.expire(at(21));
        assert_eq!((budget.idle_len, budget.next_deadline()), (0, None));
    }
}
