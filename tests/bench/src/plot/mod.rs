//! Plots as SVG. Here, one of ratios: one row each, median and extremes, on a logarithmic axis.
mod lines;
mod marks;

pub(crate) use lines::{Lines, Point, Series, lines};
pub(crate) use marks::{MarkRow, Marks, marks};

use std::fmt::Write as _;

/// What is drawn.
#[derive(Debug, Default)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) rows: Vec<PlotRow>,
    /// What others claim, drawn as bands.
    pub(crate) references: Vec<Reference>,
}

/// One row.
#[derive(Debug)]
pub(crate) struct PlotRow {
    pub(crate) label: String,
    /// Smallest, median, largest; all above 0.
    pub(crate) spread: [f64; 3],
}

/// A range of ratios that somebody claims.
#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) label: String,
    pub(crate) range: [f64; 2],
}

const LABELS: f64 = 230.0;
const WIDTH: f64 = 860.0;
const TOP: f64 = 60.0;
const ROW: f64 = 20.0;

/// From ratios to horizontal places.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    /// An axis that shows all of a plot, and 1.
    fn of(plot: &Plot) -> Self {
        let rows = plot.rows.iter().flat_map(|row| row.spread);
        let all = rows.chain(plot.references.iter().flat_map(|r| r.range)).chain([1.0]);
        let (low, high) = all.fold((1.0, 1.0), |(l, h), v: f64| (v.min(l), v.max(h)));
        Self { low: low / 1.1, high: high * 1.1 }
    }

    fn x(&self, value: f64) -> f64 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        LABELS + share * (WIDTH - LABELS - 30.0)
    }

    /// Round numbers on the axis.
    fn ticks(&self) -> impl Iterator<Item = f64> {
        let decades = (-3..6).flat_map(|power| [1.0, 2.0, 5.0].map(|n| n * 10f64.powi(power)));
        decades.filter(|tick| (self.low..=self.high).contains(tick))
    }
}

/// The plot as an SVG document.
pub(crate) fn svg(plot: &Plot) -> String {
    let axis = Axis::of(plot);
    #[expect(clippy::cast_precision_loss, reason = "a handful of rows")]
    let bottom = TOP + ROW * plot.rows.len() as f64;
    let mut out = Svg::default();
    out.text(10.0, 20.0, "start", &plot.title);
    for (reference, y) in plot.references.iter().zip([38.0, 50.0].into_iter().cycle()) {
        let [left, right] = reference.range.map(|value| axis.x(value));
        out.add(format_args!(
            "<rect x='{left:.1}' y='{TOP}' width='{:.1}' height='{:.1}' fill='#fb8' opacity='.6'/>",
            right - left,
            bottom - TOP
        ));
        out.text(left, y, "start", &reference.label);
    }
    out.ticks(&axis, bottom);
    let mut y = TOP + ROW / 2.0;
    for row in &plot.rows {
        let [low, median, high] = row.spread.map(|value| axis.x(value));
        out.text(LABELS - 10.0, y + 4.0, "end", &row.label);
        out.line([low, y], [high, y], "#369", 3);
        out.circle([median, y], colour(0));
        y += ROW;
    }
    out.document(bottom + 30.0)
}

/// Colours of what stands beside each other, to be told apart in print, too.
const COLOURS: [&str; 6] = ["#036", "#c40", "#080", "#808", "#b80", "#555"];

/// The colour of the `i`th.
fn colour(i: usize) -> &'static str {
    COLOURS[i % COLOURS.len()]
}

/// The elements of a document.
#[derive(Default)]
struct Svg(String);

impl Svg {
    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "{element}");
    }

    /// The whole as a document of this height.
    fn document(&self, height: f64) -> String {
        format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' \
             font-family='sans-serif' font-size='12'>\n<rect width='{WIDTH}' height='{height}' \
             fill='#fff'/>\n{}</svg>\n",
            self.0
        )
    }

    /// The numbers of a logarithmic axis below what is drawn, with lines upwards from them.
    fn ticks(&mut self, axis: &Axis, bottom: f64) {
        for tick in axis.ticks() {
            let colour = if (tick - 1.0).abs() < 1e-9 { "#000" } else { "#ddd" };
            self.line([axis.x(tick), TOP], [axis.x(tick), bottom], colour, 1);
            self.text(axis.x(tick), bottom + 16.0, "middle", &format!("{tick}"));
        }
    }

    fn circle(&mut self, at: [f64; 2], colour: &str) {
        let [x, y] = at;
        self.add(format_args!("<circle cx='{x:.1}' cy='{y:.1}' r='4' fill='{colour}'/>"));
    }

    /// Names and colours from left to right, above what is drawn.
    fn legend<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let mut x = 16.0;
        for (i, name) in names.enumerate() {
            self.circle([x, 40.0], colour(i));
            self.text(x + 8.0, 44.0, "start", name);
            // About what a letter is wide at this size.
            #[expect(clippy::cast_precision_loss, reason = "short names")]
            let width = 7.0 * name.len() as f64;
            x += 34.0 + width;
        }
    }

    fn line(&mut self, from: [f64; 2], to: [f64; 2], colour: &str, width: u32) {
        self.add(format_args!(
            "<line x1='{:.1}' y1='{:.1}' x2='{:.1}' y2='{:.1}' stroke='{colour}' \
             stroke-width='{width}'/>",
            from[0], from[1], to[0], to[1]
        ));
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.add(format_args!("<text x='{x:.1}' y='{y:.1}' text-anchor='{anchor}'>{text}</text>"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot() -> Plot {
        let row = |label: &str, spread| PlotRow { label: label.into(), spread };
        Plot {
            title: "a < b & c".into(),
            rows: vec![row("first", [0.9, 1.0, 1.1]), row("second", [20.0, 30.0, 40.0])],
            references: vec![Reference { label: "claimed".into(), range: [1.2, 1.25] }],
        }
    }

    #[test]
    fn the_axis_holds_everything_in_order() {
        let axis = Axis::of(&plot());
        let places = [0.9, 1.0, 1.25, 40.0].map(|value| axis.x(value));
        assert!(places.is_sorted() && places[0] > LABELS && places[3] < WIDTH, "{places:?}");
        assert_eq!(axis.ticks().collect::<Vec<_>>(), [1.0, 2.0, 5.0, 10.0, 20.0]);
    }

    #[test]
    fn every_row_and_reference_is_drawn_and_text_escaped() {
        let text = svg(&plot());
        for part in [">first<", ">second<", ">claimed<", "a &lt; b &amp; c"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(text.matches("<circle").count(), 2);
    }
}
