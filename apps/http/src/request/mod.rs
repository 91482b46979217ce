//! From a request to its response.
mod accept_encoding;
mod answer;
mod conditions;
mod fields;
mod get;
mod multipart;
mod path;
mod plain;
mod range;

pub(crate) use answer::{Answer, Refusal};
pub(crate) use plain::Unfit;

use crate::body::{Body, Completion};
use crate::connection::Exchange;
use crate::platform::{BlockSource, Clock};
use crate::server::Server;
use fields::Fields;
use hyper::body::{Body as _, Incoming};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

/// The response to a request: there at once for most requests, and small to be moved about then.
pub(crate) enum Handling<'a> {
    Done(Option<Response<Body>>),
    Working(Pin<Box<dyn Future<Output = Response<Body>> + 'a>>),
}

impl Future for Handling<'_> {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Done(response) => response.take().map_or(Poll::Pending, |r| Poll::Ready(Ok(r))),
            Self::Working(work) => work.as_mut().poll(cx).map(Ok),
        }
    }
}

/// Handles one request of a connection.
pub(crate) fn handle<'a, C: Clock, B: BlockSource>(
    server: &'a Rc<Server<C, B>>,
    exchange: &'a Rc<Exchange>,
    peer: std::net::SocketAddr,
    request: Request<Incoming>,
) -> Handling<'a> {
    let (parts, incoming) = request.into_parts();
    let log = &server.shared.access_log;
    let record = || Box::new(log.record(peer, server.clock.unix_seconds(), &parts));
    exchange.on_request(log.is_on().then(record));
    let fields = Fields::read(&parts.headers);
    if incoming.is_end_stream()
        && let Some(answer) = answer_now(server, &parts, &fields)
    {
        return Handling::Done(Some(respond(server, exchange, answer, parts.headers)));
    }
    Handling::Working(Box::pin(async move {
        let answer = match discard_body(server, exchange, &fields, incoming).await {
            Ok(BodyState::Read) => answer(server, &parts, &fields).await,
            Ok(BodyState::Unread) => answer(server, &parts, &fields).await.closing(),
            Err(refusal) => refusal.into(),
        };
        respond(server, exchange, answer, parts.headers)
    }))
}

/// The answer to a request without a body, if the disk is not needed for it.
fn answer_now<C: Clock, B: BlockSource>(
    server: &Server<C, B>,
    parts: &Parts,
    fields: &Fields,
) -> Option<Answer> {
    let result = match check(server, parts, fields) {
        Ok(()) if parts.method == Method::OPTIONS => Ok(Answer::options()),
        Ok(()) => server.get_cached(parts, fields)?,
        Err(refusal) => Err(refusal),
    };
    Some(result.unwrap_or_else(Answer::from))
}

async fn answer<C: Clock, B: BlockSource>(
    server: &Rc<Server<C, B>>,
    parts: &Parts,
    fields: &Fields,
) -> Answer {
    if let Some(answer) = answer_now(server, parts, fields) {
        return answer;
    }
    server.get(parts, fields).await.unwrap_or_else(Answer::from)
}

/// The rules that hold for every request.
fn check<C, B: BlockSource>(
    server: &Server<C, B>,
    parts: &Parts,
    fields: &Fields,
) -> Result<(), Refusal> {
    let path_len = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let host_ok =
        fields.host_count == 1 || (fields.host_count == 0 && parts.version == Version::HTTP_10);
    if path_len > server.shared.config.limits.uri_bytes {
        Err(Refusal::new(StatusCode::URI_TOO_LONG))
    } else if !host_ok {
        // RFC 9112, 3.2.
        Err(Refusal::new(StatusCode::BAD_REQUEST))
    } else {
        check_method(&parts.method)
    }
}

fn check_method(method: &Method) -> Result<(), Refusal> {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => Ok(()),
        Method::POST | Method::PUT | Method::DELETE | Method::PATCH => Err(Refusal::method()),
        Method::TRACE | Method::CONNECT => Err(Refusal::method()),
        _ => Err(Refusal::new(StatusCode::NOT_IMPLEMENTED)),
    }
}

/// What became of a request's body.
enum BodyState {
    /// It is read, or there was none.
    Read,
    /// The client was not asked for it, and cannot send another request before it.
    Unread,
}

/// Reads the request's body away, so that the next request of the connection can be read.
///
/// No resource here takes a body, so a client that waits for "100 Continue" gets its answer at once
/// (RFC 9110, 10.1.1).
async fn discard_body<C: Clock, B: BlockSource>(
    server: &Server<C, B>,
    exchange: &Exchange,
    fields: &Fields,
    incoming: Incoming,
) -> Result<BodyState, Refusal> {
    let room = server.shared.config.limits.body_bytes;
    if incoming.is_end_stream() {
        return Ok(BodyState::Read);
    } else if incoming.size_hint().lower() > room {
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE).closing());
    } else if fields.expects_continue {
        return Ok(BodyState::Unread);
    }
    exchange.on_body_started(server.clock.now_ns());
    let result = read_away(incoming, room).await;
    exchange.on_body_read();
    result.map(|()| BodyState::Read)
}

/// Reads a body of at most `room` bytes to its end.
async fn read_away(incoming: Incoming, mut room: u64) -> Result<(), Refusal> {
    let mut incoming = pin!(incoming);
    while let Some(frame) = next_frame(incoming.as_mut()).await {
        let frame = frame.map_err(|_| Refusal::new(StatusCode::BAD_REQUEST).closing())?;
        let len = frame.data_ref().map_or(0, bytes::Bytes::len) as u64;
        let left = room.checked_sub(len);
        room = left.ok_or(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE).closing())?;
    }
    Ok(())
}

async fn next_frame(
    mut incoming: Pin<&mut Incoming>,
) -> Option<hyper::Result<hyper::body::Frame<bytes::Bytes>>> {
    std::future::poll_fn(|cx| incoming.as_mut().poll_frame(cx)).await
}

/// Makes the response; `map` is the request's, whose memory the response's fields reuse.
fn respond<C: Clock, B: BlockSource>(
    server: &Server<C, B>,
    exchange: &Rc<Exchange>,
    answer: Answer,
    mut map: HeaderMap,
) -> Response<Body> {
    if answer.fields.closing {
        exchange.on_closing();
    }
    map.clear();
    map.insert(header::SERVER, answer::SERVER);
    answer.fields.fill(&mut map);
    let completion = Completion {
        shared: Rc::clone(&server.shared),
        record: exchange.take_record(),
        exchange: Rc::clone(exchange),
        status: answer.status,
        body_len: 0,
    };
    let mut response = Response::new(Body::new(answer.payload, completion));
    *response.status_mut() = answer.status;
    *response.headers_mut() = map;
    response
}
