//! The plots of the matrix: speed by number of connections, ratios to nginx, latency.
use super::cell::{COUNTS, Load, Unit};
use super::contender::Contender;
use super::results::{Outcome, Row, Verdict};
use super::site::File;
use super::wrk::Style;
use crate::plot::{self, Lines, MarkRow, Marks, Plot, PlotRow, Point, Series, lines, marks};
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
        session.plot("web-ratios", plot::svg(&Plot { title, rows, references: Vec::new() }));
    }
    let rows = shown.latencies();
    if !rows.is_empty() {
        let title = "Latency, us (medians of the rounds)".into();
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

    fn ratios(&self) -> Vec<PlotRow> {
        let others = self.rows().filter(|(outcome, row)| {
            row.contender != Contender::Nginx && outcome.cell.load.unit() != Unit::Latency
        });
        let row = |(outcome, row): (&Outcome, &Row)| {
            let label = format!("{}, {}", outcome.cell.name, row.contender.name());
            Some(PlotRow { label, spread: row.ratio(0)? })
        };
        others.filter_map(row).collect()
    }

    fn latencies(&self) -> Vec<MarkRow> {
        let paced = self.rows().filter(|(o, _)| o.cell.load.unit() == Unit::Latency);
        let row = |(outcome, row): (&Outcome, &Row)| MarkRow {
            label: format!("{}, {}", outcome.cell.name, row.contender.name()),
            values: [0, 1, 2].map(|i| row.spread(|s| s.latency_us.map_or(0.0, |l| l[i]))[1]).into(),
        };
        paced.map(row).collect()
    }
}
