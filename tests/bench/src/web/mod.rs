//! Guests on each host against native servers: a matrix of servers and loads. Most are requests to the web
//! appliance and to nginx with one worker; what begins with `net` moves bytes without HTTP.
//!
//! Each load is a session of its own: its servers are started, verified, have their turns round by
//! round, and end. So a server that fails under one load is there for the next.
mod cell;
mod contender;
mod http;
pub(crate) mod limits;
mod namespace;
mod native;
mod offload;
mod paced;
mod ping_pong;
mod plots;
mod progress;
mod pull;
mod reader;
mod results;
mod site;
mod upload;
mod veth;
mod work;
mod wrk;

pub(crate) use contender::Contender;

use crate::host::installed;
use crate::noise::Noise;
use crate::options::Part;
use crate::session::Session;
use anyhow::{Result, anyhow, ensure};
use cell::{Cell, Load, Unit};
use clap::ValueEnum;
use contender::Running;
use http::Moved;
use paced::Latency;
use progress::{Progress, clock};
use results::{Outcome, Row, Sample, Verdict};
use serde_json::{Value, json};
use site::{File, Site};
use std::time::Duration;
use work::Work;
use wrk::Style;

/// What a run takes beyond its own length: the calibration loop, starting the client, s.
const RUN_EXTRA_S: f64 = 0.3;

/// What starting and verifying a server takes, s.
const START_S: f64 = 1.0;

/// How long a server's maximum is measured before half of it is asked for, s.
const MAXIMUM_SECONDS: u32 = 1;

/// What is measured, and how.
struct Plan {
    part: Part,
    cells: Vec<Cell>,
    contenders: Vec<Contender>,
    rounds: u32,
    seconds: u32,
}

pub(crate) fn measure(session: &mut Session) -> Result<()> {
    if !installed("wrk") {
        eprintln!("web: no wrk: the part is left out");
        session.figures.condition("web", "left out (no wrk)".into());
        return Ok(());
    }
    measure_part(session, Part::Web)
}

/// The part that moves bytes without HTTP.
pub(crate) fn measure_net(session: &mut Session) -> Result<()> {
    measure_part(session, Part::Net)
}

fn measure_part(session: &mut Session, part: Part) -> Result<()> {
    limits::raise_open_files()?;
    namespace::set_up()?;
    let plan = Plan::new(session, part)?;
    eprintln!(
        "{}: {} loads, {} servers, {} rounds of {} s: about {} minutes",
        part.name(),
        plan.cells.len(),
        plan.contenders.len(),
        plan.rounds,
        plan.seconds,
        clock(plan.expected())
    );
    note_conditions(session, &plan);
    let folder = tempfile::tempdir()?;
    let site = Site::write(folder.path())?;
    let default = namespace::congestion()?;
    let outcomes = plan.run(session, &site);
    if namespace::is_own() {
        // For the parts that follow.
        namespace::set_congestion(&default)?;
    }
    report(session, part, &outcomes?);
    Ok(())
}

impl Plan {
    fn new(session: &Session, part: Part) -> Result<Self> {
        let options = &session.options;
        let congestions = congestions(options.quick)?;
        let words = if options.quick && options.only.is_empty() {
            cell::quick()
        } else {
            options.only.clone()
        };
        let cells = cell::select(&words, &congestions).map_err(|word| {
            anyhow!("there is no load {word:?}, but these: {}", cell::names(&congestions))
        })?;
        let cells = cells.into_iter().filter(|cell| cell.part() == part).collect();
        let rounds = options.rounds.unwrap_or(session.pick(1, 5));
        let seconds = options.seconds.unwrap_or(session.pick(1, 3));
        let contenders = contenders(&options.servers)?;
        Ok(Self { part, cells, contenders, rounds, seconds })
    }

    fn runs(&self) -> u32 {
        let pairs = self.cells.len() * self.contenders.len();
        self.rounds * u32::try_from(pairs).unwrap_or(u32::MAX)
    }

    fn expected(&self) -> Duration {
        let run_s = |cell: &Cell| {
            let maximum =
                if cell.load == (Load::Paced { half: true }) { MAXIMUM_SECONDS } else { 0 };
            f64::from(self.seconds + maximum) + RUN_EXTRA_S
        };
        let round_s: f64 =
            self.cells.iter().map(|cell| f64::from(self.rounds) * run_s(cell) + START_S).sum();
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        Duration::from_secs_f64(round_s * self.contenders.len() as f64)
    }

    /// Measures everything.
    fn run(&self, session: &mut Session, site: &Site) -> Result<Vec<Outcome>> {
        let mut progress = Progress::new(self.runs(), self.expected());
        let mut outcomes = Vec::new();
        for cell in &self.cells {
            outcomes.push(self.run_cell(session, cell, site, &mut progress)?);
            session.raw(self.part.name(), raw(self, &outcomes))?;
        }
        Ok(outcomes)
    }

    /// Measures all servers under a load.
    fn run_cell(
        &self,
        session: &mut Session,
        cell: &Cell,
        site: &Site,
        progress: &mut Progress,
    ) -> Result<Outcome> {
        if namespace::is_own() {
            namespace::set_congestion(&cell.congestion)?;
        }
        let mut entrants = self.start(cell, site)?;
        offload::note(session, &entrants);
        let mut noise = Noise::paired()?;
        for round in 1..=self.rounds {
            let mut base = None;
            for entrant in &mut entrants {
                let Some(running) = &entrant.running else {
                    progress.skip(1);
                    continue;
                };
                noise.calibrate()?;
                let name = entrant.row.contender.name();
                let what = format!("{} round {round}/{} {name}", cell.name, self.rounds);
                match sample(cell.load, running, self.seconds) {
                    Ok(sample) => {
                        let unit = cell.load.unit();
                        entrant.row.add(unit, sample, base);
                        if entrant.row.contender == Contender::Nginx {
                            base = Some(sample);
                            let time_s = 1.0 / results::speed(unit, sample);
                            noise.yardstick("the same work for nginx", time_s);
                        }
                        progress.step(&format!("{what}: {}", results::short(unit, sample)));
                    }
                    Err(error) => {
                        progress.step(&format!("{what}: failed: {error:#}"));
                        entrant.fail(&error);
                    }
                }
            }
        }
        let rows = entrants.into_iter().map(|entrant| entrant.row).collect();
        Ok(Outcome { cell: cell.clone(), rows, complaints: noise.complaints() })
    }

    /// Starts and verifies the servers. One that does not start has failed, and the others go on.
    fn start(&self, cell: &Cell, site: &Site) -> Result<Vec<Entrant>> {
        let work = cell.load.service().map_or(Work::Site(site), Work::Bytes);
        let mut entrants = Vec::new();
        for &contender in &self.contenders {
            let folder = tempfile::tempdir()?;
            let running = contender.start(work, folder.path());
            let verified = running.and_then(|mut running| {
                verify(&mut running, cell.load)?;
                Ok(running)
            });
            let mut entrant = Entrant { row: Row::new(contender), running: None, _folder: folder };
            match verified {
                Ok(running) => entrant.running = Some(running),
                Err(error) => {
                    eprintln!("  {} {} failed: {error:#}", cell.name, contender.name());
                    entrant.fail(&error);
                }
            }
            entrants.push(entrant);
        }
        Ok(entrants)
    }
}

/// A server that takes part in the measurement of a load.
struct Entrant {
    row: Row,
    /// None when it has failed.
    running: Option<Running>,
    /// Its files.
    _folder: tempfile::TempDir,
}

impl Entrant {
    fn fail(&mut self, error: &anyhow::Error) {
        self.row.failure = Some(format!("{error:#}"));
        self.running = None;
    }
}

/// The kernel's own choice first, and reno, whose speed over loopback no pacing limits.
fn congestions(quick: bool) -> Result<Vec<String>> {
    let default = namespace::congestion()?;
    let reno = "reno".to_owned();
    let all = default != reno && namespace::is_own() && !quick;
    Ok(if all { vec![default, reno] } else { vec![default] })
}

/// The servers to compare, in the order of their turns, nginx first.
fn contenders(named: &[Contender]) -> Result<Vec<Contender>> {
    let mut present = Vec::new();
    for &contender in Contender::value_variants() {
        if !named.is_empty() && !named.contains(&contender) {
            continue;
        }
        match contender.missing() {
            Some(reason) => eprintln!("  {reason}: {} is left out", contender.name()),
            None => present.push(contender),
        }
    }
    ensure!(!present.is_empty(), "none of the servers can be had here");
    Ok(present)
}

/// Waits for a server, and makes sure that what it answers is right.
fn verify(running: &mut Running, load: Load) -> Result<()> {
    let server = &mut running.server;
    match load.file() {
        Some(file) => {
            server.wait_ready(&file.path())?;
            http::verify(&server.address, file)
        }
        None if load == Load::Upload => server.wait_until(upload::works),
        None if load == Load::Pull => server.wait_until(pull::works),
        None => server.wait_until(ping_pong::works),
    }
}

/// Runs a load once.
fn sample(load: Load, running: &Running, seconds: u32) -> Result<Sample> {
    const MIB: f64 = 1_048_576.0;
    let server = &running.server;
    let address = server.address.as_str();
    let rate = match load {
        Load::Paced { half: true } => half_rate(address)?,
        _ => cell::LOW_RATE,
    };
    let moved = |moved: Moved| (moved.bytes, moved.seconds, None);
    let answered = |l: Latency| (l.requests, l.seconds, Some(l.quantiles_us));
    let before_s = server.cpu_time_s();
    let (count, seconds, latency_us) = match load {
        Load::Requests { file, connections, style } => {
            let tally = wrk::run(address, file, connections, style, seconds)?;
            let bytes = tally.requests * file.len_f64();
            let is_bytes = load.unit() == Unit::Bytes;
            (if is_bytes { bytes } else { tally.requests }, tally.seconds, None)
        }
        Load::Download(file) => moved(reader::run(address, file, seconds)?),
        Load::Upload => moved(upload::run(address, seconds)?),
        Load::Pull => moved(pull::run(address, seconds)?),
        Load::PingPong => answered(ping_pong::run(address, seconds)?),
        Load::Paced { .. } => answered(paced::run(address, File::Bytes128, rate, seconds)?),
    };
    let cpu_us = (server.cpu_time_s() - before_s) * 1e6;
    let per = if load.unit() == Unit::Bytes { MIB } else { 1.0 };
    Ok(Sample { rate: count / seconds, cpu_us: cpu_us / (count / per), latency_us })
}

/// Half of what a server answers at most, 1/s.
fn half_rate(address: &str) -> Result<f64> {
    let (file, connections) = (File::Bytes128, cell::CONNECTIONS);
    let tally = wrk::run(address, file, connections, Style::KeepAlive, MAXIMUM_SECONDS)?;
    Ok(tally.requests / tally.seconds / 2.0)
}

fn note_conditions(session: &mut Session, plan: &Plan) {
    let figures = &mut session.figures;
    let runs = format!("{} rounds of {} s", plan.rounds, plan.seconds);
    figures.condition(plan.part.name(), runs);
    if figures.has_condition("memory of the guests") {
        return; // The other of the two parts has said the rest.
    }
    figures.condition("memory of the guests", format!("{} MiB", work::MEMORY_MIB));
    figures.condition("network of the parts net and web", namespace::describe());
    let left_out = Contender::value_variants().iter().filter_map(|contender| {
        contender.missing().map(|reason| format!("{} ({reason})", contender.name()))
    });
    let left_out: Vec<_> = left_out.collect();
    if !left_out.is_empty() {
        figures.condition("servers left out", left_out.join(", "));
    }
}

fn raw(plan: &Plan, outcomes: &[Outcome]) -> Value {
    json!({
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "loads": outcomes.iter().map(Outcome::json).collect::<Value>(),
    })
}

/// Adds the table and the plots, and says what speaks against the session.
fn report(session: &mut Session, part: Part, outcomes: &[Outcome]) {
    let quick = session.options.quick;
    session.table(results::markdown(outcomes, quick));
    plots::draw(session, part, outcomes, quick);
    for outcome in outcomes {
        for row in &outcome.rows {
            let name = format!("{}, {}, {}", part.name(), outcome.cell.name, row.contender.name());
            let is_headline = outcome.cell.is_headline() && row.contender == Contender::ProcessTap;
            match outcome.verdict(row) {
                Verdict::Noisy(reason) if is_headline => session.void(format!("{name}: {reason}")),
                // Nothing is promised of the baseline, which many connections at a time can stop.
                Verdict::Failed(_) if row.contender == Contender::EmulationTap => {}
                Verdict::Failed(reason) => session.fail(format!("{name}: {reason}")),
                _ => {}
            }
        }
    }
}
