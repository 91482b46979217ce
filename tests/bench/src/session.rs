//! One session of measurements, and its report.
use crate::conditions;
use crate::figures::Figures;
use crate::noise::Noise;
use crate::options::Options;
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// What the parts of a session have in common.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) options: Options,
    pub(crate) figures: Figures,
    /// The noise since the part began that is being measured.
    pub(crate) noise: Noise,
    folder: PathBuf,
    /// Plots of the part that is being measured, and of those before it that were quiet.
    plots: Vec<(String, String)>,
    /// Where the plots of the part that is being measured begin.
    first_plot: usize,
    tables: Vec<String>,
    raw: Map<String, Value>,
    complaints: Vec<String>,
    failures: Vec<String>,
    voided: bool,
}

impl Session {
    /// Begins a session whose results go to `folder`, where those of an earlier one are removed.
    pub(crate) fn new(options: Options, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        remove_stale(folder)?;
        Ok(Self {
            figures: Figures::new(conditions::collect(options.quick)),
            options,
            noise: Noise::new()?,
            folder: folder.to_owned(),
            plots: Vec::new(),
            first_plot: 0,
            tables: Vec::new(),
            raw: Map::new(),
            complaints: Vec::new(),
            failures: Vec::new(),
            voided: false,
        })
    }

    /// `few` in a quick session, else `many`.
    pub(crate) fn pick<T>(&self, few: T, many: T) -> T {
        if self.options.quick { few } else { many }
    }

    /// Adds a plot, an SVG document that is written as `NAME.svg`. `name` begins with the part's.
    pub(crate) fn plot(&mut self, name: &str, svg: String) {
        self.plots.push((name.to_owned(), svg));
    }

    /// Adds a table of a part's own to the report, in Markdown.
    pub(crate) fn table(&mut self, markdown: String) {
        self.tables.push(markdown);
    }

    /// Puts a part's own raw figures into `results.json`, which is written at once: a long session
    /// that is interrupted has not been for nothing.
    pub(crate) fn raw(&mut self, name: &str, value: Value) -> Result<()> {
        self.raw.insert(name.to_owned(), value);
        self.write_raw()
    }

    /// Notes that a figure that the session is for was too noisy to be reported, and why.
    pub(crate) fn void(&mut self, reason: String) {
        self.complaints.push(reason);
        self.voided |= !self.options.quick;
    }

    /// Notes that something did not work.
    pub(crate) fn fail(&mut self, what: String) {
        self.failures.push(what);
    }

    /// Judges the noise of a part that has ended, `done` as it may have. In a quick session, which
    /// promises nothing, figures are shown all the same.
    pub(crate) fn end_part(&mut self, part: &str, done: Result<()>) -> Result<()> {
        let complaints = self.noise.complaints();
        self.noise = Noise::new()?;
        let withheld = !complaints.is_empty() && !self.options.quick;
        self.figures.close(part, withheld.then_some(&complaints));
        if withheld {
            self.plots.truncate(self.first_plot);
        }
        for complaint in complaints {
            self.void(format!("{part}: {complaint}"));
        }
        self.first_plot = self.plots.len();
        if let Err(error) = done {
            self.fail(format!("{part}: {error:#}"));
        }
        self.write_raw()
    }

    /// Writes `results.json`, `results.md` and the plots. Returns whether all parts worked, and the
    /// figures that the session was for were quiet.
    pub(crate) fn report(&self) -> Result<bool> {
        self.write_raw()?;
        for (name, svg) in &self.plots {
            fs::write(self.folder.join(format!("{name}.svg")), svg)?;
        }
        let line = |word: &str, texts: &[String]| -> String {
            texts.iter().map(|text| format!("{word}: {text}.\n")).collect()
        };
        let mut text = line("Failed", &self.failures) + &line("Too noisy", &self.complaints);
        for table in self.tables.iter().chain(&self.figures.markdown()) {
            text += &format!("\n{table}");
        }
        text += &format!("\n{}", self.figures.conditions());
        fs::write(self.folder.join("results.md"), &text)?;
        print!("{text}");
        Ok(self.failures.is_empty() && !self.voided)
    }

    fn write_raw(&self) -> Result<()> {
        let mut all = self.raw.clone();
        all.insert("conditions".into(), self.figures.conditions_json());
        all.insert("figures".into(), self.figures.json());
        all.insert("too noisy".into(), json!(self.complaints));
        all.insert("failed".into(), json!(self.failures));
        let text = serde_json::to_string_pretty(&Value::Object(all))?;
        fs::write(self.folder.join("results.json"), text).context("writing results.json")
    }
}

/// Removes what an earlier session wrote: its figures must not be taken for this one's.
fn remove_stale(folder: &Path) -> Result<()> {
    use crate::options::Part;
    use clap::ValueEnum;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let plot = name.strip_suffix(".svg").is_some_and(|stem| {
            Part::value_variants().iter().any(|part| stem.starts_with(part.name()))
        });
        if plot || ["results.json", "results.md"].contains(&name) {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    fn session(folder: &Path, quick: bool) -> Session {
        Session::new(Options { quick, ..Options::default() }, folder).unwrap()
    }

    fn text(folder: &Path) -> String {
        fs::read_to_string(folder.join("results.md")).unwrap()
    }

    /// A part with one figure, one plot, and a native program that took ever other times.
    fn noisy(session: &mut Session) {
        session.figures.sample("cpu: a pass", "ms", 3.0);
        session.plot("cpu", "<svg/>".into());
        for seconds in [1.0, 2.0, 3.0, 4.0] {
            session.noise.yardstick("native", seconds);
        }
    }

    #[test]
    fn an_earlier_session_leaves_nothing_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["results.json", "results.md", "web-ratios.svg", "cpu.svg", "mine.svg"] {
            fs::write(folder.path().join(name), "old").unwrap();
        }
        session(folder.path(), true);
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["mine.svg"]);
    }

    #[test]
    fn a_noisy_part_is_withheld_and_takes_nothing_from_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut session = session(folder.path(), false);
        noisy(&mut session);
        session.end_part("cpu", Ok(())).unwrap();
        session.figures.sample("boot: a start", "ms", 5.0);
        session.end_part("boot", Ok(())).unwrap();
        assert!(!session.report().unwrap());
        let text = text(folder.path());
        assert!(text.contains("| boot: a start | 5.00 ms |"), "{text}");
        assert!(text.contains("| cpu | too noisy:") && !text.contains("cpu: a pass"), "{text}");
        assert!(!folder.path().join("cpu.svg").exists());
        let raw = fs::read_to_string(folder.path().join("results.json")).unwrap();
        assert!(raw.contains("cpu: a pass"), "{raw}");
    }

    #[test]
    fn quick_sessions_refuse_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut session = session(folder.path(), true);
        noisy(&mut session);
        session.end_part("cpu", Ok(())).unwrap();
        assert!(session.report().unwrap());
        let text = text(folder.path());
        assert!(text.contains("Too noisy: cpu:") && text.contains("| cpu: a pass |"), "{text}");
        assert!(folder.path().join("cpu.svg").exists());
    }

    #[test]
    fn a_part_that_fails_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut session = session(folder.path(), true);
        session.end_part("boot", Err(anyhow!("no answer"))).unwrap();
        assert!(!session.report().unwrap());
        assert!(text(folder.path()).contains("Failed: boot: no answer."));
    }
}
