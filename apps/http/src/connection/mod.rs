//! One connection, from its first byte to its last.
//!
//! A connection is either in a [`session`], which has hyper's state, or at rest, when nothing of a
//! request is here yet: then it is no more than a transport, an exchange and a timer.
mod ending;
mod exchange;
mod farewell;
mod session;
mod stream;
mod timer;

pub(crate) use exchange::{Exchange, Waits};
pub(crate) use farewell::Farewell;
pub(crate) use stream::{Scratch, new_scratch};
pub(crate) use timer::Timer;

use crate::platform::{BlockSource, Clock, Transport};
use crate::server::Server;
use bytes::Bytes;
use ending::Ending;
use session::Pause;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Serves a connection until it ends. The transport is closed or aborted then.
///
/// The future is as small as a connection at rest: what sessions and farewells need is on the heap
/// while they last.
pub(crate) async fn run<C, B, T>(server: Rc<Server<C, B>>, exchange: Rc<Exchange>, mut transport: T)
where
    C: Clock + Unpin,
    B: BlockSource,
    T: Transport,
{
    let mut timer = Timer::new(server.clock.clone());
    let (transport, ending, head) = loop {
        let rest = poll_fn(|cx| poll_rest(&server, &exchange, &mut transport, &mut timer, cx));
        if let Some(ending) = rest.await {
            break (transport, ending, Bytes::new());
        }
        let Some(session) = server.start_session(&exchange) else {
            break (transport, Ending::Crowded, Bytes::new());
        };
        let pause = Box::pin(session::run(&server, &exchange, transport, &mut timer)).await;
        drop(session);
        match pause {
            Pause::Rest(idle) => transport = idle,
            Pause::End(transport, ending, head) => break (transport, ending, head),
        }
    };
    Box::pin(ending::finish(&server, &exchange, &mut timer, transport, ending, &head)).await;
}

/// Waits for the first byte of a request; an ending if there will be none.
fn poll_rest<C: Clock, B: BlockSource, T: Transport>(
    server: &Server<C, B>,
    exchange: &Exchange,
    transport: &mut T,
    timer: &mut Timer<C>,
    cx: &mut Context<'_>,
) -> Poll<Option<Ending>> {
    exchange.set_waker(cx.waker());
    if exchange.is_evicted() {
        return Poll::Ready(Some(Ending::Evicted));
    } else if server.is_draining() {
        return Poll::Ready(Some(Ending::Done));
    }
    match transport.poll_readable(cx) {
        Poll::Ready(Ok(true)) => Poll::Ready(None),
        Poll::Ready(Ok(false)) => Poll::Ready(Some(Ending::Done)),
        Poll::Ready(Err(_)) => Poll::Ready(Some(Ending::Broken)),
        Poll::Pending => {
            timer.poll(cx, || exchange.deadline_ns()).map(|()| Some(server.time_out(exchange)))
        }
    }
}
