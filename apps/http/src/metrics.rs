//! Counters, and their OpenMetrics text.
use crate::content::CacheCounters;
use hyper::StatusCode;
use std::cell::Cell;
use std::fmt::Write;

/// Media type of [`Metrics::render`].
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Statuses run from 100 to 599 here.
const STATUS_MIN: u16 = 100;
const STATUS_COUNT: usize = 500;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(Cell<u64>);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.set(self.0.get().wrapping_add(more));
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.get()
    }
}

/// What the server did since it started.
#[derive(Debug)]
pub(crate) struct Metrics {
    responses: Box<[Counter]>,
    pub(crate) body_bytes: Counter,
    pub(crate) connections_accepted: Counter,
    pub(crate) connections_refused: Counter,
    pub(crate) connections_evicted: Counter,
    pub(crate) header_timeouts: Counter,
    pub(crate) body_timeouts: Counter,
    pub(crate) idle_timeouts: Counter,
    pub(crate) write_timeouts: Counter,
}

/// Values that are not counted but measured when asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gauges {
    pub(crate) connections: usize,
    pub(crate) cache: CacheCounters,
    pub(crate) site_files: usize,
    pub(crate) site_len: u64,
    pub(crate) uptime_ns: u64,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            responses: std::iter::repeat_with(Counter::default).take(STATUS_COUNT).collect(),
            body_bytes: Counter::default(),
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            connections_evicted: Counter::default(),
            header_timeouts: Counter::default(),
            body_timeouts: Counter::default(),
            idle_timeouts: Counter::default(),
            write_timeouts: Counter::default(),
        }
    }

    pub(crate) fn count_response(&self, status: StatusCode) {
        let index = usize::from(status.as_u16().saturating_sub(STATUS_MIN));
        if let Some(counter) = self.responses.get(index) {
            counter.add(1);
        }
    }

    /// The text of the metrics page (OpenMetrics 1.0).
    pub(crate) fn render(&self, gauges: Gauges) -> String {
        let mut page = Page(String::with_capacity(2048));
        page.family("paravane_http_responses", "counter", "Responses by status.");
        for (counter, status) in self.responses.iter().zip(STATUS_MIN..) {
            if counter.get() > 0 {
                page.labelled("paravane_http_responses_total", "status", status, counter.get());
            }
        }
        self.render_connections(&mut page, gauges);
        page.family("paravane_http_timeouts", "counter", "Clients that were given up on.");
        for (phase, counter) in [
            ("header", &self.header_timeouts),
            ("body", &self.body_timeouts),
            ("idle", &self.idle_timeouts),
            ("write", &self.write_timeouts),
        ] {
            page.labelled("paravane_http_timeouts_total", "phase", phase, counter.get());
        }
        render_site(&mut page, gauges);
        page.0.push_str("# EOF\n");
        page.0
    }

    fn render_connections(&self, page: &mut Page, gauges: Gauges) {
        page.counter("paravane_http_body_bytes", "Body bytes sent.", self.body_bytes.get());
        let accepted = self.connections_accepted.get();
        page.counter("paravane_http_connections_accepted", "Connections accepted.", accepted);
        let refused = self.connections_refused.get();
        page.counter("paravane_http_connections_refused", "Connections refused: full.", refused);
        let evicted = self.connections_evicted.get();
        let help = "Idle connections closed to make room.";
        page.counter("paravane_http_connections_evicted", help, evicted);
        page.gauge("paravane_http_connections", "Connections now.", gauges.connections as u64);
    }
}

fn render_site(page: &mut Page, gauges: Gauges) {
    page.counter("paravane_http_cache_hits", "Files found in the cache.", gauges.cache.hits);
    page.counter("paravane_http_cache_misses", "Files read for the cache.", gauges.cache.misses);
    page.gauge("paravane_http_cache_bytes", "Bytes in the cache.", gauges.cache.len as u64);
    page.gauge("paravane_site_files", "Files of the site.", gauges.site_files as u64);
    page.gauge("paravane_site_bytes", "Bytes of the site's files.", gauges.site_len);
    let uptime = gauges.uptime_ns / 1_000_000_000;
    page.gauge("paravane_uptime_seconds", "Seconds since the server started.", uptime);
}

struct Page(String);

// Writing to a string cannot fail.
impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# TYPE {name} {kind}\n# HELP {name} {help}");
    }

    fn labelled(&mut self, name: &str, label: &str, of: impl std::fmt::Display, value: u64) {
        let _ = writeln!(self.0, "{name}{{{label}=\"{of}\"}} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        let _ = writeln!(self.0, "{name}_total {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        let _ = writeln!(self.0, "{name} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_open_metrics() {
        let metrics = Metrics::new();
        metrics.count_response(StatusCode::OK);
        metrics.count_response(StatusCode::OK);
        metrics.count_response(StatusCode::NOT_FOUND);
        metrics.body_bytes.add(10);
        let gauges = Gauges {
            connections: 3,
            cache: CacheCounters { hits: 4, misses: 5, len: 6 },
            site_files: 7,
            site_len: 8,
            uptime_ns: 9_999_999_999,
        };
        let page = metrics.render(gauges);
        for line in [
            "paravane_http_responses_total{status=\"200\"} 2",
            "paravane_http_responses_total{status=\"404\"} 1",
            "paravane_http_body_bytes_total 10",
            "paravane_http_connections 3",
            "paravane_http_cache_hits_total 4",
            "paravane_site_bytes 8",
            "paravane_uptime_seconds 9",
        ] {
            assert!(page.lines().any(|have| have == line), "{line} in {page}");
        }
        assert!(page.ends_with("\n# EOF\n"));
    }
}
