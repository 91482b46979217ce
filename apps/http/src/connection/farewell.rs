//! The end of a connection: last words, and freeing what it holds.
use crate::platform::{Clock, Transport};
use std::future::{Future, poll_fn};
use std::io;
use std::task::{Context, Poll};

/// For how long, and for how many bytes, a client that was told the end is listened to. Closing at once
/// could reset the connection before the client has read the last message (RFC 9112, 9.6); waiting for
/// ever would let clients that never close hold memory.
const LINGER_NS: u64 = 2_000_000_000;
const LINGER_LEN: usize = 256 << 10;

/// Sends a last message, which may be empty, closes, and waits for the client to close, too. What takes
/// longer than `patience_ns` to send, and a client that does not close, end with a reset.
pub(crate) async fn bid<C: Clock, T: Transport>(
    clock: &C,
    transport: &mut T,
    message: &[u8],
    patience_ns: u64,
) {
    let told = tell(clock, transport, message, patience_ns).await;
    if told.is_none() || linger(clock, transport).await.is_none() {
        transport.abort();
    }
}

/// Sends a last message and closes; `None` if the client does not take it all in time.
pub(crate) async fn tell<C: Clock, T: Transport>(
    clock: &C,
    transport: &mut T,
    mut message: &[u8],
    patience_ns: u64,
) -> Option<()> {
    let deadline_ns = clock.now_ns().saturating_add(patience_ns);
    while !message.is_empty() {
        let count = within(clock, deadline_ns, |cx| transport.poll_write(cx, message)).await?;
        message = message.get(count..)?;
    }
    within(clock, deadline_ns, |cx| transport.poll_flush(cx)).await?;
    within(clock, deadline_ns, |cx| transport.poll_close(cx)).await
}

/// Lets what the client still sends run into the void; `None` if it does not close.
async fn linger<C: Clock, T: Transport>(clock: &C, transport: &mut T) -> Option<()> {
    let deadline_ns = clock.now_ns().saturating_add(LINGER_NS);
    let (mut void, mut room) = ([0; 512], LINGER_LEN);
    loop {
        match within(clock, deadline_ns, |cx| transport.poll_read(cx, &mut void)).await? {
            0 => return Some(()),
            count => room = room.checked_sub(count)?,
        }
    }
}

/// Polls until something is ready; `None` if it fails or a time comes first.
async fn within<C: Clock, R>(
    clock: &C,
    deadline_ns: u64,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<R>>,
) -> Option<R> {
    let mut sleep = std::pin::pin!(clock.sleep_until(deadline_ns));
    poll_fn(|cx| match poll(cx) {
        Poll::Ready(result) => Poll::Ready(result.ok()),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
    })
    .await
}
