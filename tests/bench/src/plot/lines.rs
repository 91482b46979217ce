//! A plot of lines: what depends on a number that grows by factors.
use super::{Svg, WIDTH, colour};

/// What is drawn.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) title: String,
    /// What the numbers below are.
    pub(crate) below: &'static str,
    pub(crate) series: Vec<Series>,
}

/// A line.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<Point>,
}

/// A place on a line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    /// Above 0.
    pub(crate) x: f64,
    /// Smallest, median, largest.
    pub(crate) spread: [f64; 3],
}

const LEFT: f64 = 80.0;
const RIGHT: f64 = WIDTH - 40.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 380.0;

/// From values to places: across by their logarithm, upwards from 0.
struct Axes {
    x: [f64; 2],
    top: f64,
    step: f64,
}

impl Axes {
    fn of(plot: &Lines) -> Self {
        let points = || plot.series.iter().flat_map(|series| &series.points);
        let low = points().map(|point| point.x).fold(f64::INFINITY, f64::min);
        let high = points().map(|point| point.x).fold(0.0, f64::max);
        let largest = points().map(|point| point.spread[2]).fold(0.0, f64::max).max(1e-9);
        let step = round_step(largest / 5.0);
        // A single place stands in the middle.
        let x = if low < high { [low, high] } else { [low / 2.0, low * 2.0] };
        Self { x, top: (largest / step).ceil() * step, step }
    }

    fn place(&self, x: f64, y: f64) -> [f64; 2] {
        let across = (x / self.x[0]).ln() / (self.x[1] / self.x[0]).ln();
        [LEFT + across * (RIGHT - LEFT), BOTTOM - y / self.top * (BOTTOM - TOP)]
    }

    /// Round numbers from 0 up.
    fn levels(&self) -> impl Iterator<Item = f64> {
        (0..=20).map(|i| f64::from(i) * self.step).filter(|level| *level <= self.top * 1.001)
    }
}

/// The smallest of 1, 2, 5, 10, 20, 50 ... that is not below `least`.
fn round_step(least: f64) -> f64 {
    let decade = 10f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade);
    steps.into_iter().find(|step| *step >= least * 0.999).unwrap_or(decade * 10.0)
}

/// The plot as an SVG document.
pub(crate) fn lines(plot: &Lines) -> String {
    let axes = Axes::of(plot);
    let mut out = Svg::default();
    out.text(10.0, 20.0, "start", &plot.title);
    out.legend(plot.series.iter().map(|series| series.name.as_str()));
    for level in axes.levels() {
        let [_, y] = axes.place(axes.x[0], level);
        out.line([LEFT, y], [RIGHT, y], if level > 0.0 { "#ddd" } else { "#000" }, 1);
        out.text(LEFT - 8.0, y + 4.0, "end", &format!("{level}"));
    }
    let mut places: Vec<f64> =
        plot.series.iter().flat_map(|series| series.points.iter().map(|p| p.x)).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    for x in places {
        out.text(axes.place(x, 0.0)[0], BOTTOM + 16.0, "middle", &format!("{x}"));
    }
    out.text((LEFT + RIGHT) / 2.0, BOTTOM + 34.0, "middle", plot.below);
    for (i, series) in plot.series.iter().enumerate() {
        for pair in series.points.windows(2) {
            let [from, to] = [pair[0], pair[1]].map(|p| axes.place(p.x, p.spread[1]));
            out.line(from, to, colour(i), 2);
        }
        for point in &series.points {
            let [low, median, high] = point.spread.map(|y| axes.place(point.x, y));
            out.line(low, high, colour(i), 2);
            out.circle(median, colour(i));
        }
    }
    out.document(BOTTOM + 46.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, points: &[(f64, f64)]) -> Series {
        let point = |&(x, y): &(f64, f64)| Point { x, spread: [0.9 * y, y, 1.1 * y] };
        Series { name: name.into(), points: points.iter().map(point).collect() }
    }

    #[test]
    fn steps_are_round() {
        let steps = [0.7, 1.0, 3.0, 27_000.0].map(round_step);
        assert_eq!(steps.map(|step| (step * 10.0).round() / 10.0), [1.0, 1.0, 5.0, 50_000.0]);
    }

    #[test]
    fn everything_is_within_the_axes() {
        let plot = Lines {
            title: "a < b".into(),
            below: "connections",
            series: vec![series("one", &[(16.0, 5.0), (4096.0, 90_000.0)]), series("two", &[])],
        };
        let axes = Axes::of(&plot);
        for point in &plot.series[0].points {
            for [x, y] in point.spread.map(|y| axes.place(point.x, y)) {
                assert!((LEFT..=RIGHT).contains(&x) && (TOP..=BOTTOM).contains(&y), "{x} {y}");
            }
        }
        let text = lines(&plot);
        for part in [">one<", ">two<", ">16<", ">4096<", ">connections<", "a &lt; b"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn one_place_is_enough() {
        let plot =
            Lines { title: String::new(), below: "", series: vec![series("a", &[(9.0, 1.0)])] };
        assert!(!lines(&plot).contains("NaN") && !lines(&plot).contains("inf"));
    }
}
