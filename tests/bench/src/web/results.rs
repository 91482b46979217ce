//! What was measured, and how it is written down.
use super::cell::{Cell, Unit};
use super::contender::Contender;
use crate::figures::spread;
use crate::noise::against_ratios;
use serde_json::{Value, json};

/// One run of a load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Requests, or bytes of bodies, a second.
    pub(crate) rate: f64,
    /// CPU time of the server's processes for a request, or for 1 MiB, us.
    pub(crate) cpu_us: f64,
    /// p50, p99 and p99.9, where latency was measured, us.
    pub(crate) latency_us: Option<[f64; 3]>,
}

/// A server's runs of a load, one for each round.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) contender: Contender,
    pub(crate) samples: Vec<Sample>,
    /// To the first server, round by round: speed, or for latencies the median; and CPU time.
    pub(crate) ratios: Vec<[f64; 2]>,
    pub(crate) failure: Option<String>,
}

/// The runs of a load.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) cell: Cell,
    pub(crate) rows: Vec<Row>,
    /// Why the machine was too noisy for all of them.
    pub(crate) complaints: Vec<String>,
}

/// What can be said of a server under a load.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Noisy(String),
    Failed(String),
}

impl Row {
    pub(crate) fn new(contender: Contender) -> Self {
        Self { contender, samples: Vec::new(), ratios: Vec::new(), failure: None }
    }

    /// Adds a run, and the one of the server that it is compared with.
    pub(crate) fn add(&mut self, unit: Unit, sample: Sample, base: Option<Sample>) {
        self.samples.push(sample);
        if let Some(base) = base {
            let ratio = value(unit, sample) / value(unit, base);
            self.ratios.push([ratio, sample.cpu_us / base.cpu_us]);
        }
    }

    /// Extremes and median of the ratios of speed (0) or CPU time (1).
    pub(crate) fn ratio(&self, which: usize) -> Option<[f64; 3]> {
        (!self.ratios.is_empty()).then(|| spread(&self.column(which)))
    }

    /// Extremes and median of what a run gave.
    pub(crate) fn spread(&self, of: impl Fn(&Sample) -> f64) -> [f64; 3] {
        spread(&self.samples.iter().map(of).collect::<Vec<_>>())
    }

    fn column(&self, which: usize) -> Vec<f64> {
        self.ratios.iter().map(|ratios| ratios[which]).collect()
    }
}

/// The value that is compared.
fn value(unit: Unit, sample: Sample) -> f64 {
    match (unit, sample.latency_us) {
        (Unit::Latency, Some([p50, ..])) => p50,
        _ => sample.rate,
    }
}

/// A number that is the greater, the faster the server was.
pub(crate) fn speed(unit: Unit, sample: Sample) -> f64 {
    if unit == Unit::Latency { 1.0 / value(unit, sample) } else { value(unit, sample) }
}

/// A run in a word, for the line of progress.
pub(crate) fn short(unit: Unit, sample: Sample) -> String {
    match unit {
        Unit::Requests => format!("{} /s", thousands(sample.rate)),
        Unit::Bytes => format!("{:.2} GB/s", sample.rate / 1e9),
        Unit::Latency => format!("p50 {:.0} us", value(unit, sample)),
    }
}

impl Outcome {
    /// What can be said of a row. A noisy one is shown all the same in a quick session.
    pub(crate) fn verdict(&self, row: &Row) -> Verdict {
        if let Some(failure) = &row.failure {
            return Verdict::Failed(failure.clone());
        }
        let own = against_ratios(&row.column(0));
        let all: Vec<_> = self.complaints.iter().cloned().chain(own).collect();
        if all.is_empty() { Verdict::Good } else { Verdict::Noisy(all.join("; ")) }
    }

    /// Everything, as it was measured.
    pub(crate) fn json(&self) -> Value {
        let sample = |s: &Sample| json!({"rate_per_s": s.rate, "cpu_us": s.cpu_us, "p50_p99_p999_us": s.latency_us});
        let row = |row: &Row| {
            json!({
                "server": row.contender.name(),
                "rounds": row.samples.iter().map(sample).collect::<Value>(),
                "ratios_to_nginx": row.column(0),
                "cpu_ratios_to_nginx": row.column(1),
                "verdict": match self.verdict(row) {
                    Verdict::Good => "good".to_owned(),
                    Verdict::Noisy(reason) => format!("too noisy: {reason}"),
                    Verdict::Failed(reason) => format!("failed: {reason}"),
                },
            })
        };
        let unit = match self.cell.load.unit() {
            Unit::Requests | Unit::Latency => "request",
            Unit::Bytes => "bytes a second, CPU for 1 MiB",
        };
        json!({
            "load": self.cell.name,
            "unit": unit,
            "congestion control": self.cell.congestion,
            "servers": self.rows.iter().map(row).collect::<Value>(),
        })
    }
}

const HEAD: &str = "\
| load | server | median (min to max) | x nginx | CPU time | x nginx |\n|---|---|---|---|---|---|\n";

/// The matrix in Markdown. `lenient` shows what is too noisy, too.
pub(crate) fn markdown(outcomes: &[Outcome], lenient: bool) -> String {
    let mut text = HEAD.to_owned();
    for outcome in outcomes {
        let all_noisy = !lenient && !outcome.complaints.is_empty();
        if all_noisy {
            let reason = outcome.complaints.join("; ");
            text += &format!("| {} | all | too noisy: {reason} | | | |\n", outcome.cell.name);
        }
        for row in &outcome.rows {
            let cells = match outcome.verdict(row) {
                Verdict::Failed(reason) => format!("failed: {reason} | | |"),
                _ if all_noisy => continue,
                Verdict::Noisy(reason) if !lenient => format!("too noisy: {reason} | | |"),
                _ => figures(outcome.cell.load.unit(), row),
            };
            let (load, server) = (&outcome.cell.name, row.contender.name());
            text += &format!("| {load} | {server} | {} |\n", cells.replace('\n', " "));
        }
    }
    text + &note(outcomes)
}

/// What the table does not say by itself.
fn note(outcomes: &[Outcome]) -> String {
    let of_requests = |outcome: &&Outcome| outcome.cell.load.unit() != Unit::Bytes;
    let congestion = outcomes.iter().find(of_requests).map(|outcome| &outcome.cell.congestion);
    let congestion = congestion.map_or(String::new(), |name| {
        format!(" Congestion control is {name} where the name of a load does not say so.")
    });
    format!(
        "\nx nginx: medians of the ratios of each round. Uploads, and what begins with net, have a plain epoll server in place of nginx.{congestion}\n"
    )
}

/// The columns of a row from the third on.
fn figures(unit: Unit, row: &Row) -> String {
    let [low, median, high] = row.spread(|sample| value(unit, *sample));
    let speed = match unit {
        Unit::Requests => {
            let [low, median, high] = [low, median, high].map(thousands);
            format!("{median} /s ({low} to {high})")
        }
        Unit::Bytes => {
            let [low, median, high] = [low, median, high].map(|rate| format!("{:.2}", rate / 1e9));
            format!("{median} GB/s ({low} to {high})")
        }
        Unit::Latency => {
            let [p99, p999] = [1, 2].map(|i| row.spread(|s| s.latency_us.map_or(0.0, |l| l[i]))[1]);
            let [_, rate, _] = row.spread(|sample| sample.rate);
            format!(
                "p50 {median:.0} us ({low:.0} to {high:.0}), p99 {p99:.0}, p99.9 {p999:.0} \
                 at {} /s",
                thousands(rate)
            )
        }
    };
    let ratio = |which| {
        let [low, median, high] = row.ratio(which)?;
        Some(format!("{median:.2} ({low:.2} to {high:.2})"))
    };
    let [_, cpu, _] = row.spread(|sample| sample.cpu_us);
    let per = if unit == Unit::Bytes { "MiB" } else { "request" };
    let [speed_ratio, cpu_ratio] = [0, 1].map(|which| ratio(which).unwrap_or_default());
    format!("{speed} | {speed_ratio} | {cpu:.1} us/{per} | {cpu_ratio}")
}

/// A number with its digits in groups of three.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::cell::Load;
    use super::*;

    fn sample(rate: f64) -> Sample {
        Sample { rate, cpu_us: 1e6 / rate, latency_us: None }
    }

    fn outcome(load: Load, rows: Vec<Row>) -> Outcome {
        let cell = Cell { name: "a-load".into(), load, congestion: "reno".into() };
        Outcome { cell, rows, complaints: Vec::new() }
    }

    fn row(unit: Unit, samples: &[(Sample, Sample)]) -> Row {
        let mut row = Row::new(Contender::ProcessTap);
        samples.iter().for_each(|&(own, base)| row.add(unit, own, Some(base)));
        row
    }

    #[test]
    fn ratios_are_those_of_runs_side_by_side() {
        // Both drift alike: the ratio stays.
        let rounds =
            [1.0, 2.0, 3.0, 4.0].map(|drift| (sample(150e3 * drift), sample(100e3 * drift)));
        let outcome = outcome(Load::Upload, vec![row(Unit::Requests, &rounds)]);
        assert_eq!(outcome.rows[0].ratio(0), Some([1.5; 3]));
        assert_eq!(outcome.verdict(&outcome.rows[0]), Verdict::Good);
    }

    #[test]
    fn a_row_alone_can_be_too_noisy_and_is_withheld() {
        let rounds = [1.0, 1.0, 2.0, 2.0].map(|ratio| (sample(1e5 * ratio), sample(1e5)));
        let outcome = outcome(Load::Upload, vec![row(Unit::Bytes, &rounds)]);
        let [strict, lenient] = [false, true].map(|l| markdown(std::slice::from_ref(&outcome), l));
        assert!(strict.contains("too noisy: the ratio varied by 66.7 %"), "{strict}");
        assert!(lenient.contains("| 1.50 (1.00 to 2.00) |"), "{lenient}");
        assert!(outcome.json()["servers"][0]["verdict"].as_str().unwrap().starts_with("too noisy"));
    }

    #[test]
    fn noise_that_all_servers_had_takes_one_line() {
        let rows = || [Contender::Nginx, Contender::ProcessTap].map(Row::new).into();
        let mut outcome = outcome(Load::Upload, rows());
        outcome.complaints = vec!["the CPU was taken".into()];
        outcome.rows[1].failure = Some("no answer".into());
        let text = markdown(&[outcome], false);
        let lines: Vec<_> = text.lines().skip(2).take(2).collect();
        let all = "| a-load | all | too noisy: the CPU was taken | | | |";
        assert_eq!(lines, [all, "| a-load | process-tap | failed: no answer | | | |"]);
    }

    #[test]
    fn a_failure_is_named_in_place_of_figures() {
        let mut failed = row(Unit::Bytes, &[(sample(1e5), sample(1e5))]);
        failed.failure = Some("errors that wrk counted: read 7".into());
        let text = markdown(&[outcome(Load::Upload, vec![failed])], true);
        let line = "| a-load | process-tap | failed: errors that wrk counted: read 7 | | | |";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn latencies_are_compared_by_their_medians() {
        let latency = |p50| Sample { latency_us: Some([p50, 2.0 * p50, 900.0]), ..sample(1000.0) };
        let row = row(Unit::Latency, &[(latency(80.0), latency(100.0))]);
        let text = figures(Unit::Latency, &row);
        let expect = "p50 80 us (80 to 80), p99 160, p99.9 900 at 1,000 /s | 0.80 (0.80 to 0.80) |";
        assert!(text.starts_with(expect), "{text}");
    }

    #[test]
    fn digits_are_grouped() {
        let text = [0.0, 999.4, 1000.0, 121_400.0, 1_234_567.0].map(thousands);
        assert_eq!(text, ["0", "999", "1,000", "121,400", "1,234,567"]);
    }
}
