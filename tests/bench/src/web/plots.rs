//! The plots of the matrix: speed by number of connections, ratios to nginx, latency.
use super::cell::{COUNTS, Load, Unit};
use super::contender::Contender;
use super::results::{Outcome, Row, Verdict};
use super::site::File;
use super::wrk::Style;
use crate::plot::{Lines, MarkRow, Marks, Point, Series, lines, marks};
use crate::session::Session;
use clap::ValueEnum;

/// Adds what there is something for. `lenient` draws what is too noisy, too.
pub(crate) fn draw(session: &mut Session, outcomes: &[Outcome], lenient: bool) {
    let shown = Shown { outcomes, lenient };
    for (file, name) in [(File::Bytes128, "web-requests-128"), (File::Kib1, "web-requests-1k")] {
        let series = shown.by_connections(file);
        if !series.is_empty() {
            let title = format!("Requests/s, file of {} B, connections kept", file.len());
            let plot = Lines { title, below: "connections", series };
            session.plot(name, lines(&plot));
        }
    }
    let rows = shown.ratios();
    if !rows.is_empty() {
        let title = "Speed relative to nginx over loopback".into();
        let names = contenders().map(Contender::name).collect();
        session.plot("web-ratios", marks(&Marks { title, names, rows }));
    }
    let rows = shown.latencies();
    if !rows.is_empty() {
        let title = "Latency, us".into();
        let names = vec!["p50", "p99", "p99.9"];
        session.plot("web-latency", marks(&Marks { title, names, rows }));
    }
}

/// The figures that may be shown.
struct Shown<'a> {
    outcomes: &'a [Outcome],
    lenient: bool,
}

impl Shown<'_> {
    fn rows(&self) -> impl Iterator<Item = (&Outcome, &Row)> {
        let all = self.outcomes.iter().flat_map(|o| o.rows.iter().map(move |row| (o, row)));
        all.filter(|(outcome, row)| match outcome.verdict(row) {
            Verdict::Good => true,
            Verdict::Noisy(_) => self.lenient,
            Verdict::Failed(_) => false,
        })
    }

    fn by_connections(&self, wanted: File) -> Vec<Series> {
        let series = Contender::value_variants().iter().map(|&contender| {
            let points = self.rows().filter_map(|(outcome, row)| match outcome.cell.load {
                Load::Requests { file, connections, style: Style::KeepAlive }
                    if file == wanted
                        && row.contender == contender
                        && COUNTS.contains(&connections) =>
                {
                    Some(Point { x: connections.into(), spread: row.spread(|s| s.rate) })
                }
                _ => None,
            });
            Series { name: contender.name().into(), points: points.collect() }
        });
        series.filter(|series| !series.points.is_empty()).collect()
    }

    /// A row for each load, a value for each server.
    fn ratios(&self) -> Vec<MarkRow> {
        let rows =
            self.outcomes.iter().filter(|o| o.cell.load.unit() != Unit::Latency).map(|outcome| {
                let name = &outcome.cell.name;
                let ratio = |contender| {
                    let mut rows = self
                        .rows()
                        .filter(|(o, row)| o.cell.name == *name && row.contender == contender);
                    rows.next().and_then(|(_, row)| row.ratio(0))
                };
                MarkRow { label: name.clone(), values: contenders().map(ratio).collect() }
            });
        rows.filter(|row| row.values.iter().any(Option::is_some)).collect()
    }

    /// A row for each server, a value for each quantile.
    fn latencies(&self) -> Vec<MarkRow> {
        let paced = self.rows().filter(|(o, _)| o.cell.load.unit() == Unit::Latency);
        let row = |(outcome, row): (&Outcome, &Row)| MarkRow {
            label: format!("{}, {}", outcome.cell.name, row.contender.name()),
            values: [0, 1, 2]
                .map(|i| Some(row.spread(|s| s.latency_us.map_or(0.0, |us| us[i]))))
                .into(),
        };
        paced.map(row).collect()
    }
}

/// The servers that are compared with the first, in the order of their colours.
fn contenders() -> impl Iterator<Item = Contender> {
    Contender::value_variants().iter().copied().filter(|&contender| contender != Contender::Nginx)
}
