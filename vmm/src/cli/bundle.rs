//! `paravane bundle`.
use super::args::Bundle as Args;
use super::{Failure, Status, disks, fail, images, net, net6, qemu, run, with};
use crate::bundle::{self, Shim, WriteError};
use crate::devices::padded_tag;
use crate::site;
use paravane_abi::layout::RAM_SIZE_MAX;
use paravane_abi::start_info::SEED_LEN;
use paravane_host::bundle::{Bundle, DISKS_MAX, Tag};
use paravane_host::image::Image;
use paravane_host::space::AddressSpace;
use paravane_host::start_info::{self, Told};
use std::io::Write;

/// Writes a bundle, and tells how to start it.
pub(super) fn bundle(args: &Args) -> Status {
    match write(args) {
        Ok(text) => {
            // Nothing is left to do if nobody reads it.
            let _ = writeln!(std::io::stdout(), "{text}");
            Status::OK
        }
        Err((status, error)) => fail(status, &error),
    }
}

fn write(args: &Args) -> Result<String, Failure> {
    let (file, image) = images::open(&args.image)?;
    let config = run::read_config(args.config.as_deref())?;
    check_told(&image, &args.arguments, config.len())?;
    let image_bytes = file.read_all().map_err(with(Status::IMAGE))?;
    let bundle = Bundle {
        image: &image_bytes,
        config: &config,
        arguments: args.arguments.clone(),
        disks: tags(args.site.is_some()),
        is_own_disk: args.site.is_some(),
        file_len: 0,
        ipv4: net::bundled(args.ip, args.gateway)?,
        ipv6: net6::config(args.ip6, args.gateway6)?,
        watchdog_seconds: args.watchdog,
    };
    let len = bundle::write(
        &Shim::installed().map_err(with(Status::HOST))?,
        &bundle,
        args.site.as_deref(),
        &args.output,
    )
    .map_err(|error| (status(&error), error.to_string()))?;
    let name = args.output.display();
    let command = qemu::command(&args.output, &bundle, image.manifest());
    Ok(format!("{name}: {len} bytes; start it for example with\n\n{command}"))
}

/// Checks that the guest can be told all this.
fn check_told(image: &Image, arguments: &[String], config_len: usize) -> Result<(), Failure> {
    let space = AddressSpace::new(image, RAM_SIZE_MAX).map_err(with(Status::IMAGE))?;
    let seed = [0; SEED_LEN];
    let told = Told { devices: &[], ipv6: &[], arguments, config_len, dma_offset: 0, seed };
    start_info::build(&space, &told).map_err(with(Status::USAGE))?;
    Ok(())
}

/// Names for the disks that the operator may give to the machine.
fn tags(has_site: bool) -> Vec<Tag> {
    let site = has_site.then(|| site::TAG.to_owned());
    site.into_iter().chain(disks::tags()).take(DISKS_MAX).map(|tag| padded_tag(&tag)).collect()
}

fn status(error: &WriteError) -> Status {
    match error {
        WriteError::Bundle(_) | WriteError::InSite(_) => Status::USAGE,
        WriteError::Site(_) | WriteError::NotAFile(_) | WriteError::Output { .. } => Status::HOST,
    }
}
