//! A plot of several values in each row, on a logarithmic axis.
use super::{Axis, LABELS, ROW, Svg, TOP, colour};

/// What is drawn.
#[derive(Debug)]
pub(crate) struct Marks {
    pub(crate) title: String,
    /// What the values of a row are, in their order.
    pub(crate) names: Vec<&'static str>,
    pub(crate) rows: Vec<MarkRow>,
}

/// A row.
#[derive(Debug)]
pub(crate) struct MarkRow {
    pub(crate) label: String,
    /// Smallest, median and largest, all above 0, of each value that there is.
    pub(crate) values: Vec<Option<[f64; 3]>>,
}

/// The plot as an SVG document.
pub(crate) fn marks(plot: &Marks) -> String {
    let values = || plot.rows.iter().flat_map(|row| row.values.iter().flatten().flatten().copied());
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(0.0, f64::max);
    let axis = Axis { low: low / 1.3, high: high * 1.3 };
    #[expect(clippy::cast_precision_loss, reason = "a handful of rows")]
    let bottom = TOP + ROW * plot.rows.len() as f64;
    let mut out = Svg::default();
    out.text(10.0, 20.0, "start", &plot.title);
    out.legend(plot.names.iter().copied());
    out.ticks(&axis, bottom);
    let mut y = TOP + ROW / 2.0;
    for row in &plot.rows {
        out.text(LABELS - 10.0, y + 4.0, "end", &row.label);
        for (i, spread) in row.values.iter().enumerate() {
            let Some(spread) = spread else { continue };
            let [low, median, high] = spread.map(|value| axis.x(value));
            out.line([low, y], [high, y], colour(i), 2);
            out.circle([median, y], colour(i));
        }
        y += ROW;
    }
    out.document(bottom + 30.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_mark_in_its_row() {
        let row = |label: &str, values: [Option<f64>; 2]| MarkRow {
            label: label.into(),
            values: values.map(|v| v.map(|median| [0.9 * median, median, 1.1 * median])).into(),
        };
        let rows = vec![row("first", [Some(20.0), Some(90.0)]), row("second", [None, Some(4e3)])];
        let text = marks(&Marks { title: "t".into(), names: vec!["p50", "p99"], rows });
        // Two in the legend.
        assert_eq!(text.matches("<circle").count(), 2 + 3);
        for part in [">first<", ">second<", ">p50<", ">p99<", ">100<", ">1000<"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
