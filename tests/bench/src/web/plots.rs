//! The plots of the matrix: speed by number of connections, ratios to nginx, latency.
use super::cell::{COUNTS, Load, Unit};
use super::contender::Contender;
use super::results::{Outcome, Row, Verdict};
use super::site::File;
use super::wrk::Style;
use crate::options::Part;
use crate::plot::{Lines, MarkRow, Marks, Point, Series, lines, marks};
use crate::session::Session;

/// Adds what there is something for. `lenient` draws what is too noisy, too.
pub(crate) fn draw(session: &mut Session, part: Part, outcomes: &[Outcome], lenient: bool) {
    let shown = Shown { outcomes, lenient };
    for (file, name) in [(File::Bytes128, "web-requests-128"), (File::Kib1, "web-requests-1k")] {
        let series = shown.by_connections(file);
        if series.iter().any(|series| !series.points.is_empty()) {
            let title = format!("Requests/s, file of {} B, connections kept", file.len());
            let plot = Lines { title, below: "connections", series };
            session.plot(name, lines(&plot));
        }
    }
    let rows = shown.ratios();
    if !rows.is_empty() {
        let title = "Speed relative to the native server over loopback".into();
        let names = shown.contenders().map(Contender::name).collect();
        session.plot(&format!("{}-ratios", part.name()), marks(&Marks { title, names, rows }));
    }
    let rows = shown.latencies();
    if !rows.is_empty() {
        let title = "Latency, us".into();
        let names = vec!["p50", "p99", "p99.9"];
        session.plot(&format!("{}-latency", part.name()), marks(&Marks { title, names, rows }));
    }
}

/// The figures that may be shown.
struct Shown<'a> {
    outcomes: &'a [Outcome],
    lenient: bool,
}

impl Shown<'_> {
    /// All servers, in the order of their colours; even those that this or that plot has nothing of.
    fn contenders(&self) -> impl Iterator<Item = Contender> {
        self.outcomes.first().into_iter().flat_map(|o| o.rows.iter().map(|row| row.contender))
    }

    fn rows(&self) -> impl Iterator<Item = (&Outcome, &Row)> {
        let all = self.outcomes.iter().flat_map(|o| o.rows.iter().map(move |row| (o, row)));
        all.filter(|(outcome, row)| match outcome.verdict(row) {
            Verdict::Good => true,
            Verdict::Noisy(_) => self.lenient,
            Verdict::Failed(_) => false,
        })
    }

    fn by_connections(&self, wanted: File) -> Vec<Series> {
        let series = self.contenders().map(|contender| {
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
        series.collect()
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
                MarkRow { label: name.clone(), values: self.contenders().map(ratio).collect() }
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

#[cfg(test)]
mod tests {
    use super::super::cell::Cell;
    use super::super::results::Sample;
    use super::*;

    fn outcome(ratios: [f64; 4]) -> Outcome {
        let sample = |rate| Sample { rate, cpu_us: 1.0, latency_us: None };
        let mut row = Row::new(Contender::ProcessTap);
        for ratio in ratios {
            row.add(Unit::Requests, sample(1000.0 * ratio), Some(sample(1000.0)));
        }
        let load =
            Load::Requests { file: File::Bytes128, connections: 16, style: Style::KeepAlive };
        let cell = Cell { name: "keepalive-128-16".into(), load, congestion: "reno".into() };
        Outcome { cell, rows: vec![row], complaints: Vec::new() }
    }

    #[test]
    fn what_is_too_noisy_is_not_drawn_unless_nothing_is_promised() {
        let drawn = |ratios, lenient| {
            let outcomes = [outcome(ratios)];
            let shown = Shown { outcomes: &outcomes, lenient };
            [shown.ratios().len(), shown.by_connections(File::Bytes128)[0].points.len()]
        };
        let (quiet, noisy) = ([1.5; 4], [1.0, 1.0, 2.0, 2.0]);
        assert_eq!(drawn(quiet, false), [1, 1]);
        assert_eq!(drawn(noisy, false), [0, 0]);
        assert_eq!(drawn(noisy, true), [1, 1]);
    }
}
