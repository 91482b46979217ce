//! The server: admits connections, keeps what they share, and ends them.
use crate::access_log::{AccessLog, Sink};
use crate::config::Config;
use crate::connection::{self, Exchange, Farewell, Scratch, Timer, Waits, new_scratch};
use crate::content::{ContentLimits, Contents};
use crate::metrics::{Gauges, Metrics};
use crate::platform::{BlockSource, Clock, Transport};
use crate::request::{Answer, Refusal};
use crate::sessions::Sessions;
use crate::site::Site;
use hyper::StatusCode;
use hyper::server::conn::http1;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, UNIX_EPOCH};

/// Memory that a connection at rest takes at most, TCP's part included, bytes. Sets the default number
/// of connections.
const CONNECTION_COST: u64 = 4 << 10;

/// The parts of memory for connections at rest and for sessions, per cent.
const CONNECTION_SHARE: u64 = 30;
const SESSION_SHARE: u64 = 25;

/// Most connections beyond the maximum that are being dismissed politely; more are reset.
const DISMISSALS_MAX: usize = 64;

/// Time for a dismissed client to take what it is owed, ns.
const DISMISSAL_NS: u64 = 2_000_000_000;

/// Lines of the access log wait at most this long, ns.
const LOG_DELAY_NS: u64 = 250_000_000;

const MIB: u64 = 1 << 20;

/// The parts of the server that do not depend on the machine below it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    pub(crate) access_log: AccessLog,
}

/// Serves one site to any number of connections, on one thread.
pub struct Server<C, B: BlockSource> {
    pub(crate) shared: Rc<Shared>,
    pub(crate) clock: C,
    pub(crate) site: Site,
    pub(crate) contents: Rc<Contents<B>>,
    pub(crate) http: http1::Builder,
    pub(crate) scratch: Scratch,
    /// Responses that are put together for one write, of one connection at a time.
    pub(crate) output: RefCell<Vec<u8>>,
    /// A Unix time, and the value of `Date` then.
    pub(crate) date: RefCell<(u64, String)>,
    /// Whether all requests go to hyper.
    #[cfg(test)]
    pub(crate) hyper_only: Cell<bool>,
    pub(crate) sessions: Sessions,
    waits: Waits,
    started_ns: u64,
    connections_max: usize,
    connections: RefCell<HashMap<u64, Rc<Exchange>>>,
    next_id: Cell<u64>,
    dismissals: Cell<usize>,
    draining: Cell<bool>,
    drained: Cell<Option<Waker>>,
}

impl<C: Clock + Unpin, B: BlockSource> Server<C, B> {
    /// A server for an indexed site.
    ///
    /// `memory_len` is the size of the memory that the server may share in, bytes; the defaults of the
    /// configuration follow it. Lines of the access log go to `log`, if the configuration wants them.
    pub fn new(
        config: Config,
        memory_len: u64,
        site: Site,
        disk: B,
        clock: C,
        log: Sink,
    ) -> Rc<Self> {
        let limits = content_limits(&config, memory_len);
        let default_max = usize::try_from(memory_len / 100 * CONNECTION_SHARE / CONNECTION_COST)
            .unwrap_or(usize::MAX);
        Rc::new(Self {
            contents: Rc::new(Contents::new(disk, &site, limits)),
            http: http_builder(&config),
            scratch: new_scratch(),
            output: RefCell::default(),
            date: RefCell::new((u64::MAX, String::new())),
            #[cfg(test)]
            hyper_only: Cell::new(false),
            sessions: Sessions::new(memory_len / 100 * SESSION_SHARE),
            waits: Waits::from(&config.timeouts),
            started_ns: clock.now_ns(),
            connections_max: config.limits.connections.unwrap_or(default_max).max(1),
            connections: RefCell::default(),
            next_id: Cell::new(0),
            dismissals: Cell::new(0),
            draining: Cell::new(false),
            drained: Cell::default(),
            shared: Rc::new(Shared {
                metrics: Metrics::new(),
                access_log: AccessLog::new(config.access_log.then_some(log)),
                config,
            }),
            clock,
            site,
        })
    }

    /// Most connections at a time.
    #[must_use]
    pub fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// The site that is served.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Serves one connection until it ends.
    ///
    /// When the server is full, the connection that has been idle longest makes room; if none is idle,
    /// the new one is answered with 503 and closed.
    pub async fn serve<T: Transport>(self: Rc<Self>, mut transport: T) {
        self.shared.metrics.connections_accepted.add(1);
        if self.draining.get() {
            transport.abort();
        } else if self.make_room() {
            let exchange = Rc::new(Exchange::new(self.waits, self.clock.now_ns()));
            let _place = Place::take(&self, Rc::clone(&exchange));
            connection::run(Rc::clone(&self), exchange, transport).await;
        } else {
            let mut timer = Timer::new(self.clock.clone());
            Box::pin(self.refuse(&mut timer, transport)).await;
        }
    }

    /// Ends all connections: idle ones now, the others after the response under way, and those that
    /// do not end within the configured time by force. Returns when none is left.
    pub async fn drain(&self) {
        self.draining.set(true);
        self.wake_all();
        let seconds = u64::from(self.shared.config.timeouts.drain_seconds);
        let deadline_ns = self.clock.now_ns().saturating_add(seconds * 1_000_000_000);
        let mut sleep = std::pin::pin!(self.clock.sleep_until(deadline_ns));
        poll_fn(|cx| {
            if self.connections.borrow().is_empty() {
                return Poll::Ready(());
            }
            self.drained.set(Some(cx.waker().clone()));
            sleep.as_mut().poll(cx)
        })
        .await;
        self.shared.access_log.flush();
    }

    /// Writes the access log now and then; never ends.
    pub async fn write_access_log(self: Rc<Self>) {
        loop {
            poll_fn(|cx| self.shared.access_log.poll_lines(cx)).await;
            self.clock.sleep_until(self.clock.now_ns().saturating_add(LOG_DELAY_NS)).await;
            self.shared.access_log.flush();
        }
    }

    /// Number of connections open now.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.connections.borrow().len()
    }

    fn make_room(&self) -> bool {
        let connections = self.connections.borrow();
        // Those that were told to go take a moment; let them overlap with their successors.
        let staying = connections.values().filter(|exchange| !exchange.is_evicted()).count();
        if staying < self.connections_max {
            return true;
        }
        let idle = connections
            .values()
            .filter_map(|exchange| Some((exchange.idle_deadline_ns()?, exchange)));
        let longest = idle.min_by_key(|(deadline_ns, _)| *deadline_ns);
        if let Some((_, exchange)) = longest {
            self.shared.metrics.connections_evicted.add(1);
            exchange.evict();
        }
        longest.is_some()
    }

    fn wake_all(&self) {
        self.each_connection(Exchange::wake);
    }
}

impl<C: Clock, B: BlockSource> Server<C, B> {
    pub(crate) fn each_connection(&self, action: impl Fn(&Exchange)) {
        self.connections.borrow().values().for_each(|exchange| action(exchange));
    }

    /// Any connection that a condition holds for.
    pub(crate) fn find_connection(&self, is: impl Fn(&Exchange) -> bool) -> Option<Rc<Exchange>> {
        self.connections.borrow().values().find(|exchange| is(exchange)).map(Rc::clone)
    }

    /// Ends a connection that there is no room for, saying so.
    pub(crate) async fn refuse<T: Transport>(&self, timer: &mut Timer<C>, transport: T) {
        self.shared.metrics.connections_refused.add(1);
        let answer = Answer::from(Refusal::new(StatusCode::SERVICE_UNAVAILABLE).closing());
        self.dismiss(timer, transport, &answer.into_last_message(&self.date())).await;
    }

    /// Ends a connection that is to make room, or that there is none for, with a last message.
    pub(crate) async fn dismiss<T: Transport>(
        &self,
        timer: &mut Timer<C>,
        mut transport: T,
        message: &[u8],
    ) {
        if self.dismissals.get() >= DISMISSALS_MAX {
            return transport.abort();
        }
        self.dismissals.set(self.dismissals.get() + 1);
        let (clock, scratch) = (&self.clock, &self.scratch);
        let mut farewell = Farewell { clock, timer, scratch, patience_ns: DISMISSAL_NS };
        farewell.bid(&mut transport, message).await;
        self.dismissals.set(self.dismissals.get() - 1);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// The value of a `Date` field.
    pub(crate) fn date(&self) -> String {
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(self.clock.unix_seconds()))
    }
}

impl<C: Clock, B: BlockSource> Server<C, B> {
    pub(crate) fn gauges(&self) -> Gauges {
        Gauges {
            connections: self.connections.borrow().len(),
            cache: self.contents.cache_counters(),
            site_files: self.site.file_count(),
            site_len: self.site.total_len(),
            uptime_ns: self.clock.now_ns().saturating_sub(self.started_ns),
        }
    }
}

impl<C, B: BlockSource> std::fmt::Debug for Server<C, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("site", &self.site).finish_non_exhaustive()
    }
}

/// A connection's entry in the server's table.
struct Place<'a, C, B: BlockSource> {
    server: &'a Server<C, B>,
    id: u64,
}

impl<'a, C, B: BlockSource> Place<'a, C, B> {
    fn take(server: &'a Server<C, B>, exchange: Rc<Exchange>) -> Self {
        let id = server.next_id.get();
        server.next_id.set(id + 1);
        server.connections.borrow_mut().insert(id, exchange);
        Self { server, id }
    }
}

impl<C, B: BlockSource> Drop for Place<'_, C, B> {
    fn drop(&mut self) {
        let mut connections = self.server.connections.borrow_mut();
        connections.remove(&self.id);
        if connections.is_empty()
            && let Some(waker) = self.server.drained.take()
        {
            waker.wake();
        }
    }
}

fn content_limits(config: &Config, memory_len: u64) -> ContentLimits {
    let size = |len: u64| usize::try_from(len).unwrap_or(usize::MAX);
    let cache_len = config.cache.total_bytes.unwrap_or(size(memory_len / 8));
    ContentLimits {
        cache_len,
        cached_file_len: config.cache.file_bytes.unwrap_or(cache_len / 4),
        stream_len: size((memory_len / 16).min(32 * MIB)),
    }
}

/// hyper's limits. Its own timeouts stay off: [`Exchange`] keeps all deadlines.
fn http_builder(config: &Config) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .half_close(true)
        .header_read_timeout(None)
        .max_buf_size(config.limits.header_bytes)
        .writev(true);
    builder
}
