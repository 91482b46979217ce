//! `paravane run`.
use super::args::{BackendChoice, Run};
use super::{Failure, Status, disks, fail, images, net, with};
use crate::backend::Backend;
use crate::backend::kvm::{Kvm, Unavailable};
use crate::backend::process::Process;
use crate::domain::Plan;
use crate::domain::clock::Sample;
use crate::supervisor::{self, Settings};
use std::path::Path;
use std::time::Duration;

/// Runs an image to its end.
pub(super) fn run(args: Run, early: Sample) -> Status {
    match prepare(args) {
        Ok((plan, backend, settings)) => supervisor::run(plan, backend, settings, early),
        Err((status, error)) => fail(status, &error),
    }
}

fn prepare(args: Run) -> Result<(Plan, Box<dyn Backend>, Settings), Failure> {
    let (file, image) = images::open(&args.image)?;
    let config = read_config(args.config.as_deref())?;
    let backend = choose(args.backend)?;
    let net = net::build(&args.network, &image, args.storage.site.is_some())?;
    let mut devices: Vec<_> = net.device.into_iter().collect();
    devices.extend(disks::build(&args.storage)?);
    let plan = Plan::new(file, image, args.memory, devices, &args.arguments, config)
        .map_err(with(Status::USAGE))?
        .polling(Duration::from_micros(u64::from(args.poll)));
    let patience = Duration::from_secs(u64::from(args.watchdog));
    let patience = Some(patience).filter(|p| !p.is_zero());
    let settings = Settings { patience, network: net.user, notices: net.notices };
    Ok((plan, backend, settings))
}

/// The guest's configuration, empty if there is none.
pub(super) fn read_config(path: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let Some(path) = path else { return Ok(Vec::new()) };
    std::fs::read(path).map_err(|e| (Status::HOST, format!("{}: {e}", path.display())))
}

fn choose(choice: BackendChoice) -> Result<Box<dyn Backend>, Failure> {
    match choice {
        BackendChoice::Auto => kvm().or_else(|_| process()),
        BackendChoice::Kvm => kvm()
            .map_err(|e| (Status::HOST, format!("{e}: {}; or use --backend process", e.remedy()))),
        BackendChoice::Process => process(),
    }
}

fn kvm() -> Result<Box<dyn Backend>, Unavailable> {
    Ok(Box::new(Kvm::new()?))
}

fn process() -> Result<Box<dyn Backend>, Failure> {
    Process::probe().map_err(with(Status::HOST))?;
    Ok(Box::new(Process))
}
