//! Samples, medians, and how they are written down.
use anyhow::Result;
use std::fmt::Write as _;
use std::path::Path;

/// All samples of a session.
#[derive(Debug)]
pub(crate) struct Figures {
    conditions: Vec<(&'static str, String)>,
    rows: Vec<Row>,
}

/// The samples of one figure.
#[derive(Debug)]
struct Row {
    name: String,
    unit: &'static str,
    samples: Vec<f64>,
}

impl Figures {
    pub(crate) fn new(conditions: Vec<(&'static str, String)>) -> Self {
        Self { conditions, rows: Vec::new() }
    }

    /// Adds one sample of a figure.
    pub(crate) fn sample(&mut self, name: &str, unit: &'static str, value: f64) {
        eprintln!("  {name}: {value:.3} {unit}");
        match self.rows.iter_mut().find(|row| row.name == name) {
            Some(row) => row.samples.push(value),
            None => self.rows.push(Row { name: name.to_owned(), unit, samples: vec![value] }),
        }
    }

    /// A Markdown table: median, extremes, number of samples.
    pub(crate) fn markdown(&self) -> String {
        let mut text =
            String::from("| figure | median | min | max | runs |\n|---|---|---|---|---|\n");
        for Row { name, unit, samples } in &self.rows {
            let [min, median, max] = spread(samples);
            let runs = samples.len();
            // Writing to a String does not fail.
            let _ =
                writeln!(text, "| {name} | {median:.2} {unit} | {min:.2} | {max:.2} | {runs} |");
        }
        text.push_str("\nConditions: ");
        let all: Vec<_> = self.conditions.iter().map(|(k, v)| format!("{k}: {v}")).collect();
        text.push_str(&all.join("; "));
        text.push('\n');
        text
    }

    /// Writes `results.json` and `results.md` into a folder.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|r| serde_json::json!({"name": r.name, "unit": r.unit, "samples": r.samples}))
            .collect();
        let conditions: serde_json::Map<_, _> =
            self.conditions.iter().map(|(k, v)| ((*k).to_owned(), v.as_str().into())).collect();
        let json = serde_json::json!({"conditions": conditions, "figures": rows});
        std::fs::write(folder.join("results.json"), serde_json::to_string_pretty(&json)?)?;
        std::fs::write(folder.join("results.md"), self.markdown())?;
        Ok(())
    }
}

/// Minimum, median and maximum; zeroes if there are no samples.
pub(crate) fn spread(samples: &[f64]) -> [f64; 3] {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |i: usize| sorted.get(i).copied().unwrap_or(0.0);
    let middle = sorted.len() / 2;
    let median = if sorted.len().is_multiple_of(2) {
        f64::midpoint(at(middle.saturating_sub(1)), at(middle))
    } else {
        at(middle)
    };
    [at(0), median, at(sorted.len().saturating_sub(1))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_min_median_max() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), [1.0, 2.0, 3.0]);
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), [1.0, 2.5, 4.0]);
        assert_eq!(spread(&[]), [0.0; 3]);
    }
}
