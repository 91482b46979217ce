//! The end of a connection: last words, and freeing what it holds.
use super::stream::Scratch;
use super::timer::Timer;
use crate::platform::{Clock, Transport};

/// For how long, and for how many bytes, a client that was told the end is listened to. Closing at once
/// could reset the connection before the client has read the last message (RFC 9112, 9.6); waiting for
/// ever would let clients that never close hold memory.
const LINGER_NS: u64 = 2_000_000_000;
const LINGER_LEN: usize = 256 << 10;

/// What it takes to end a connection.
pub(crate) struct Farewell<'a, C: Clock> {
    pub(crate) clock: &'a C,
    pub(crate) timer: &'a mut Timer<C>,
    pub(crate) scratch: &'a Scratch,
    /// For how long the client may take to be told, ns.
    pub(crate) patience_ns: u64,
}

impl<C: Clock> Farewell<'_, C> {
    /// Sends a last message, which may be empty, closes, and waits for the client to close, too. What
    /// takes too long to send, and a client that does not close, end with a reset.
    pub(crate) async fn bid<T: Transport>(&mut self, transport: &mut T, message: &[u8]) {
        let told = self.say(transport, message).await;
        if told.is_none() || self.linger(transport).await.is_none() {
            transport.abort();
        }
    }

    /// Sends a last message and closes; a reset if the client does not take it all in time.
    pub(super) async fn tell<T: Transport>(&mut self, transport: &mut T, message: &[u8]) {
        if self.say(transport, message).await.is_none() {
            transport.abort();
        }
    }

    async fn say<T: Transport>(&mut self, transport: &mut T, mut message: &[u8]) -> Option<()> {
        let deadline_ns = self.clock.now_ns().saturating_add(self.patience_ns);
        while !message.is_empty() {
            let write = self.timer.within(deadline_ns, |cx| transport.poll_write(cx, message));
            let count = write.await?;
            message = message.get(count..)?;
        }
        self.timer.within(deadline_ns, |cx| transport.poll_flush(cx)).await?;
        self.timer.within(deadline_ns, |cx| transport.poll_close(cx)).await
    }

    /// Lets what the client still sends run into the void; `None` if it does not close.
    async fn linger<T: Transport>(&mut self, transport: &mut T) -> Option<()> {
        let deadline_ns = self.clock.now_ns().saturating_add(LINGER_NS);
        let (scratch, mut room) = (self.scratch, LINGER_LEN);
        loop {
            let read = self
                .timer
                .within(deadline_ns, |cx| transport.poll_read(cx, &mut scratch.borrow_mut()));
            match read.await? {
                0 => return Some(()),
                count => room = room.checked_sub(count)?,
            }
        }
    }
}
