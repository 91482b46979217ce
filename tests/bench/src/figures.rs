//! Samples, medians, and how they are written down.
use serde_json::{Map, Value, json};

/// All samples of a session.
#[derive(Debug)]
pub(crate) struct Figures {
    conditions: Vec<(&'static str, String)>,
    rows: Vec<Row>,
    /// Parts of which no figures are shown, and why.
    withheld: Vec<(String, String)>,
    references: Vec<[&'static str; 2]>,
}

/// The samples of one figure.
#[derive(Debug)]
struct Row {
    name: String,
    unit: &'static str,
    samples: Vec<f64>,
    state: State,
}

/// What is to be done with a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its part is being measured.
    Open,
    Shown,
    Withheld,
}

impl Figures {
    pub(crate) fn new(conditions: Vec<(&'static str, String)>) -> Self {
        Self { conditions, rows: Vec::new(), withheld: Vec::new(), references: Vec::new() }
    }

    /// Adds a condition that was not known at the beginning.
    pub(crate) fn condition(&mut self, name: &'static str, value: String) {
        self.conditions.push((name, value));
    }

    pub(crate) fn has_condition(&self, name: &str) -> bool {
        self.conditions.iter().any(|(known, _)| *known == name)
    }

    /// Adds one sample of a figure.
    pub(crate) fn sample(&mut self, name: &str, unit: &'static str, value: f64) {
        eprintln!("  {name}: {value:.3} {unit}");
        match self.rows.iter_mut().find(|row| row.name == name) {
            Some(row) => row.samples.push(value),
            None => self.rows.push(Row {
                name: name.to_owned(),
                unit,
                samples: vec![value],
                state: State::Open,
            }),
        }
    }

    /// Ends a part: its figures are shown, unless something speaks against them.
    pub(crate) fn close(&mut self, part: &str, against: Option<&Vec<String>>) {
        let state = if against.is_some() { State::Withheld } else { State::Shown };
        self.rows.iter_mut().filter(|row| row.state == State::Open).for_each(|r| r.state = state);
        self.withheld.extend(against.map(|reasons| (part.to_owned(), reasons.join("; "))));
    }

    /// Adds what others claim of themselves, to stand below the figures.
    pub(crate) fn reference(&mut self, name: &'static str, value: &'static str) {
        self.references.push([name, value]);
    }

    /// Smallest, median and largest sample of a figure.
    pub(crate) fn spread(&self, name: &str) -> Option<[f64; 3]> {
        self.rows.iter().find(|row| row.name == name).map(|row| spread(&row.samples))
    }

    /// A Markdown table, if there is something to show: median, extremes, number of samples.
    pub(crate) fn markdown(&self) -> Option<String> {
        let mut lines = Vec::new();
        for Row { name, unit, samples, .. } in
            self.rows.iter().filter(|row| row.state != State::Withheld)
        {
            let [min, median, max] = spread(samples);
            let runs = samples.len();
            lines.push(format!("| {name} | {median:.2} {unit} | {min:.2} | {max:.2} | {runs} |"));
        }
        for (part, reason) in &self.withheld {
            lines.push(format!("| {part} | too noisy: {reason} | | | |"));
        }
        for [name, value] in &self.references {
            lines.push(format!("| {name} | {value} | | | |"));
        }
        let head = "| figure | median | min | max | runs |\n|---|---|---|---|---|\n";
        (!lines.is_empty()).then(|| format!("{head}{}\n", lines.join("\n")))
    }

    /// The conditions as a line of Markdown.
    pub(crate) fn conditions(&self) -> String {
        let all: Vec<_> = self.conditions.iter().map(|(k, v)| format!("{k}: {v}")).collect();
        format!("Conditions: {}\n", all.join("; "))
    }

    pub(crate) fn conditions_json(&self) -> Value {
        let condition = |(k, v): &(&str, String)| ((*k).to_owned(), v.as_str().into());
        self.conditions.iter().map(condition).collect::<Map<_, _>>().into()
    }

    /// All samples, the withheld ones as well.
    pub(crate) fn json(&self) -> Value {
        let row = |r: &Row| json!({"name": r.name, "unit": r.unit, "samples": r.samples});
        self.rows.iter().map(row).collect()
    }
}

/// Minimum, median and maximum; zeroes if there are no samples.
pub(crate) fn spread(samples: &[f64]) -> [f64; 3] {
    [0.0, 0.5, 1.0].map(|share| quantile(samples, share))
}

/// First quartile, median and third quartile; zeroes if there are no samples.
pub(crate) fn quartiles(samples: &[f64]) -> [f64; 3] {
    [0.25, 0.5, 0.75].map(|share| quantile(samples, share))
}

/// The value below which this share of the samples lies, linear between samples.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "few samples")]
#[expect(clippy::cast_sign_loss, reason = "shares are not negative")]
pub(crate) fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = share * sorted.len().saturating_sub(1) as f64;
    let at = |place: f64| sorted.get(place as usize).copied().unwrap_or(0.0);
    let (below, above) = (at(place.floor()), at(place.ceil()));
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_min_median_max() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), [1.0, 2.0, 3.0]);
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), [1.0, 2.5, 4.0]);
        assert_eq!(spread(&[]), [0.0; 3]);
        assert_eq!(quartiles(&[5.0, 1.0, 2.0, 3.0, 4.0]), [2.0, 3.0, 4.0]);
        assert_eq!(quartiles(&[1.0, 2.0]), [1.25, 1.5, 1.75]);
    }

    #[test]
    fn the_table_has_figures_references_and_conditions() {
        let mut figures = Figures::new(vec![("cpu", "a fast one".to_owned())]);
        [1.0, 3.0].into_iter().for_each(|ms| figures.sample("start", "ms", ms));
        figures.reference("start, claimed", "5 ms");
        assert_eq!(figures.spread("start"), Some([1.0, 2.0, 3.0]));
        let lines = ["| start | 2.00 ms | 1.00 | 3.00 | 2 |", "| start, claimed | 5 ms | | | |"];
        let text = figures.markdown().unwrap();
        assert!(lines.iter().all(|line| text.contains(line)), "{text}");
        assert_eq!(figures.conditions(), "Conditions: cpu: a fast one\n");
    }

    #[test]
    fn without_figures_there_is_no_table() {
        assert_eq!(Figures::new(Vec::new()).markdown(), None);
    }
}
