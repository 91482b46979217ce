//! HTTP on a connection while it is busy: hyper's state, from the first byte of a request to the next
//! rest.
use super::direct::Handover;
use super::ending::{Ending, classify};
use super::exchange::{Exchange, Phase};
use super::stream::Observed;
use super::timer::Timer;
use crate::platform::{BlockSource, Clock, Transport};
use crate::request;
use crate::server::Server;
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

/// Why a session stopped.
pub(super) enum Pause<T> {
    /// The connection is idle, and nothing is lost with hyper's state.
    Rest(T),
    /// HTTP is over. The bytes are what was read of a request.
    End(T, Ending, Bytes),
}

/// What the driver of hyper's connection saw.
enum Event {
    Idle,
    Done,
    Failed(hyper::Error),
    TimedOut,
}

/// Serves requests until the connection is idle or ends.
pub(super) async fn run<C, B, T>(
    server: &Rc<Server<C, B>>,
    exchange: &Rc<Exchange>,
    mut transport: T,
    handover: Handover,
    timer: &mut Timer<C>,
) -> Pause<T>
where
    C: Clock + Unpin,
    B: BlockSource,
    T: Transport,
{
    let peer = transport.peer_address();
    let service = service_fn(|request| request::handle(server, exchange, peer, request));
    let Handover { mut received, is_brief } = handover;
    loop {
        let io = Observed::new(transport, received, exchange, &server.clock, &server.scratch);
        let mut connection = server.http.serve_connection(io, &service);
        let mut draining = false;
        let event = poll_fn(|cx| {
            exchange.set_waker(cx.waker());
            if server.is_draining() && !std::mem::replace(&mut draining, true) {
                Pin::new(&mut connection).graceful_shutdown();
            }
            if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(result.map_or_else(Event::Failed, |()| Event::Done));
            }
            let rests = draining || is_brief || exchange.is_to_rest() || server.sessions.are_many();
            if rests && exchange.phase() == Phase::Idle {
                return Poll::Ready(Event::Idle);
            }
            timer.poll(cx, || exchange.deadline_ns()).map(|()| Event::TimedOut)
        })
        .await;
        let http1::Parts { io, read_buf, .. } = connection.into_parts();
        let ending = match event {
            // The next request has begun.
            Event::Idle if !read_buf.is_empty() => {
                exchange.on_read(server.clock.now_ns());
                (transport, received) = (io.transport, read_buf);
                continue;
            }
            Event::Idle => {
                exchange.on_rest();
                return Pause::Rest(io.transport);
            }
            Event::Done => Ending::Done,
            Event::Failed(error) => classify(&error, &read_buf, exchange.is_refused()),
            Event::TimedOut => server.time_out(exchange),
        };
        return Pause::End(io.transport, ending, read_buf);
    }
}
