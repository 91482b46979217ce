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
    /// All above 0.
    pub(crate) values: Vec<f64>,
}

/// The plot as an SVG document.
pub(crate) fn marks(plot: &Marks) -> String {
    let values = || plot.rows.iter().flat_map(|row| row.values.iter().copied());
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(0.0, f64::max);
    let axis = Axis { low: low / 1.3, high: high * 1.3 };
    #[expect(clippy::cast_precision_loss, reason = "a handful of rows")]
    let bottom = TOP + ROW * plot.rows.len() as f64;
    let mut out = Svg::default();
    out.text(10.0, 20.0, "start", &plot.title);
    out.legend(plot.names.iter().copied());
    for tick in axis.ticks() {
        out.line([axis.x(tick), TOP], [axis.x(tick), bottom], "#ddd", 1);
        out.text(axis.x(tick), bottom + 16.0, "middle", &format!("{tick}"));
    }
    let mut y = TOP + ROW / 2.0;
    for row in &plot.rows {
        out.text(LABELS - 10.0, y + 4.0, "end", &row.label);
        for (i, value) in row.values.iter().enumerate() {
            out.circle([axis.x(*value), y], colour(i));
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
        let row =
            |label: &str, values: [f64; 2]| MarkRow { label: label.into(), values: values.into() };
        let rows = vec![row("first", [20.0, 90.0]), row("second", [30.0, 4000.0])];
        let text = marks(&Marks { title: "t".into(), names: vec!["p50", "p99"], rows });
        // Two in the legend.
        assert_eq!(text.matches("<circle").count(), 2 + 4);
        for part in [">first<", ">second<", ">p50<", ">p99<", ">100<", ">1000<"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
