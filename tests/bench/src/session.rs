//! One session of measurements, and its report.
use crate::figures::Figures;
use crate::noise::Noise;
use crate::plot::Plot;
use crate::{conditions, plot};
use anyhow::Result;
use std::fs;
use std::path::Path;

/// What the parts of a session have in common.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) figures: Figures,
    pub(crate) noise: Noise,
    pub(crate) quick: bool,
    plots: Vec<(&'static str, Plot)>,
}

impl Session {
    pub(crate) fn new(quick: bool) -> Result<Self> {
        let figures = Figures::new(conditions::collect(quick));
        Ok(Self { figures, noise: Noise::new()?, quick, plots: Vec::new() })
    }

    /// `few` in a quick session, else `many`.
    pub(crate) fn pick<T>(&self, few: T, many: T) -> T {
        if self.quick { few } else { many }
    }

    /// Adds a plot, to be written as `NAME.svg`.
    pub(crate) fn plot(&mut self, name: &'static str, plot: Plot) {
        self.plots.push((name, plot));
    }

    /// Writes `results.json` into a folder; `results.md` and the plots as well if the machine was quiet
    /// enough, or in a quick session, which promises nothing. Returns whether it was.
    pub(crate) fn report(&self, folder: &Path) -> Result<bool> {
        let complaints = self.noise.complaints();
        fs::create_dir_all(folder)?;
        let json = serde_json::to_string_pretty(&self.figures.json(&complaints))?;
        fs::write(folder.join("results.json"), json)?;
        let is_quiet = complaints.is_empty();
        let mut text = String::new();
        for complaint in &complaints {
            text += &format!("Too noisy: {complaint}.\n");
        }
        if is_quiet || self.quick {
            text += &self.figures.markdown();
            self.draw(folder)?;
        } else {
            text += "No figures are reported; the raw ones are in results.json.\n";
        }
        fs::write(folder.join("results.md"), &text)?;
        print!("{text}");
        Ok(is_quiet || self.quick)
    }

    fn draw(&self, folder: &Path) -> Result<()> {
        for (name, plot) in &self.plots {
            fs::write(folder.join(format!("{name}.svg")), plot::svg(plot))?;
        }
        Ok(())
    }
}
