//! One connection, from its first byte to its last.
//!
//! A connection is either in a [`session`], which has hyper's state, or at rest: then it is no more
//! than a transport, an exchange and a timer. Plain requests are answered at rest ([`direct`]); what
//! else comes starts a session.
mod direct;
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
use direct::{Direct, Step, Unsent};
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
    let mut unsent = None;
    let (transport, ending, head) = loop {
        let rest = poll_fn(|cx| {
            poll_rest(&server, &exchange, &mut transport, &mut timer, &mut unsent, cx)
        });
        let handover = match rest.await {
            Step::End(ending) => break (transport, ending, Bytes::new()),
            Step::Session(handover) => handover,
        };
        let Some(session) = server.start_session(&exchange) else {
            break (transport, Ending::Crowded, Bytes::new());
        };
        let pause =
            Box::pin(session::run(&server, &exchange, transport, handover, &mut timer)).await;
        drop(session);
        match pause {
            Pause::Rest(idle) => transport = idle,
            Pause::End(transport, ending, head) => break (transport, ending, head),
        }
    };
    Box::pin(ending::finish(&server, &exchange, &mut timer, transport, ending, &head)).await;
}

/// Answers plain requests, and waits for what else may happen to a connection at rest.
fn poll_rest<'s, C: Clock, B: BlockSource, T: Transport>(
    server: &'s Server<C, B>,
    exchange: &Exchange,
    transport: &mut T,
    timer: &mut Timer<C>,
    unsent: &mut Option<Box<Unsent<'s>>>,
    cx: &mut Context<'_>,
) -> Poll<Step> {
    exchange.set_waker(cx.waker());
    let step = Direct { server, exchange, transport, unsent }.poll(cx);
    if step.is_ready() {
        return step;
    }
    timer.poll(cx, || exchange.deadline_ns()).map(|()| Step::End(server.time_out(exchange)))
}
