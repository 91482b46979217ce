//! How many idle web appliances a machine carries: started together, each asked once, left alone.
mod fleet;
mod room;
mod usage;

use crate::figures::quantile;
use crate::plot::{Lines, Point, Series, lines};
use crate::session::Session;
use crate::web::limits::raise_open_files;
use anyhow::Result;
use fleet::Fleet;
use std::time::{Duration, Instant};
use usage::{Machine, Usage};

const MIB: f64 = 1024.0 * 1024.0;

/// Numbers of appliances.
const COUNTS: [u32; 4] = [1, 10, 100, 1000];
const COUNTS_QUICK: [u32; 1] = [20];

/// From this many on, what the machine has less of memory says something about each.
const MANY: u32 = 100;

/// Times between the last answer and the first look: longer than a closed connection is remembered (10 s).
const SETTLE: Duration = Duration::from_secs(12);
const SETTLE_QUICK: Duration = Duration::from_secs(1);

/// For how long the processor time of idle appliances is counted.
const IDLE: Duration = Duration::from_secs(10);
const IDLE_QUICK: Duration = Duration::from_secs(2);

/// Requests to appliances that were idle.
const REQUESTS: usize = 200;

pub(crate) fn measure(session: &mut Session) -> Result<()> {
    eprintln!("density: idle web appliances, example site, process backend, user network");
    fleet::end_with_this_process();
    raise_open_files()?;
    let counts = match &session.options.appliances[..] {
        [] => session.pick(COUNTS_QUICK.to_vec(), COUNTS.to_vec()),
        chosen => chosen.to_vec(),
    };
    let mut measured = Vec::new();
    for count in counts {
        if let Some(reason) = room::lack(count)? {
            eprintln!("  {count} appliances are left out: {reason}");
            continue;
        }
        for _ in 0..session.pick(1, 3) {
            session.noise.calibrate()?;
            one(session, count)?;
        }
        measured.push(count);
    }
    plot(session, &measured);
    Ok(())
}

/// Starts, looks at, asks and ends `count` appliances.
fn one(session: &mut Session, count: u32) -> Result<()> {
    let before = Machine::now()?;
    let start = Instant::now();
    let mut fleet = Fleet::start(count)?;
    let each_ms = |since: Instant| since.elapsed().as_secs_f64() * 1e3 / f64::from(count);
    fleet.wait_for_answers()?;
    session.figures.sample(&figure(START, count), "ms", each_ms(start));
    eprintln!("  {count} appliances have answered after {:.1} s", start.elapsed().as_secs_f64());

    std::thread::sleep(session.pick(SETTLE_QUICK, SETTLE));
    memory(session, &fleet, before)?;
    idle_time(session, &fleet)?;

    let latencies = fleet.ask(session.pick(REQUESTS / 10, REQUESTS))?;
    session.figures.sample(&figure(LATENCY, count), "ms", quantile(&latencies, 0.5));
    session.figures.sample(
        &figure("99th percentile of that", count),
        "ms",
        quantile(&latencies, 0.99),
    );

    let end = Instant::now();
    fleet.end()?;
    session.figures.sample(&figure("end, each", count), "ms", each_ms(end));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn memory(session: &mut Session, fleet: &Fleet, before: Machine) -> Result<()> {
    let count = fleet.count();
    match fleet.memory_bytes() {
        Some(bytes) => {
            let each = bytes as f64 / MIB / f64::from(count);
            session.figures.sample(&figure(PSS, count), "MiB", each);
        }
        None => eprintln!("  only root may look at the memory of a sandbox: left out"),
    }
    if count >= MANY {
        let taken = before.available_bytes as f64 - Machine::now()?.available_bytes as f64;
        session.figures.sample(&figure(HOST, count), "MiB", taken / MIB / f64::from(count));
    }
    Ok(())
}

/// Counts the processor time of appliances that nobody asks anything.
fn idle_time(session: &mut Session, fleet: &Fleet) -> Result<()> {
    let count = fleet.count();
    let (machine, before, start) =
        (Machine::now()?, Usage::of(&fleet.processes())?, Instant::now());
    std::thread::sleep(session.pick(IDLE_QUICK, IDLE));
    let percent = |seconds: f64| 100.0 * seconds / start.elapsed().as_secs_f64();
    let used = Usage::of(&fleet.processes())?.cpu_s - before.cpu_s;
    session.figures.sample(&figure(IDLE_CPU, count), "% of a core", percent(used));
    let all = percent(Machine::now()?.busy_s - machine.busy_s);
    session.figures.sample(&figure("the whole machine meanwhile", count), "% of a core", all);
    Ok(())
}

const START: &str = "start until all have answered, each";
const PSS: &str = "proportional set size of VMM and guest, each";
const HOST: &str = "memory that the machine has less, each";
const IDLE_CPU: &str = "processor time while idle, all together";
const LATENCY: &str = "a request to one that was idle, median";

fn figure(what: &str, count: u32) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("density: {count} appliance{plural}, {what}")
}

fn plot(session: &mut Session, counts: &[u32]) {
    draw(session, counts, "memory", "Memory of an idle appliance, MiB", &[PSS, HOST]);
    draw(session, counts, "time", "Time of each, ms", &[START, LATENCY]);
    draw(session, counts, "idle", "Processor time of all while idle, % of a core", &[IDLE_CPU]);
}

fn draw(session: &mut Session, counts: &[u32], name: &str, title: &str, figures: &[&str]) {
    let point = |what: &str, count: u32| {
        let spread = session.figures.spread(&figure(what, count))?;
        Some(Point { x: f64::from(count), spread })
    };
    let series = figures.iter().map(|what| Series {
        name: (*what).to_owned(),
        points: counts.iter().filter_map(|&count| point(what, count)).collect(),
    });
    let series: Vec<_> = series.filter(|series| !series.points.is_empty()).collect();
    if !series.is_empty() {
        let plot = Lines { title: title.to_owned(), below: "appliances", series };
        session.plot(&format!("density-{name}"), lines(&plot));
    }
}
