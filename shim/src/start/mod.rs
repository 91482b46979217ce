//! From the loader's start info to the guest's first instruction, and the machine's end.
mod devices;
mod error;
mod plan;

use crate::domain::{Clock, Domain, Ram, Stop};
use crate::machine::apic::Apic;
use crate::machine::gate::{enter, open};
use crate::machine::{Identity, clock, cpu, interrupts, power, segments, serial};
use crate::pvh::Told;
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use core::convert::Infallible;
use core::fmt::{Arguments, Write};
use core::sync::atomic::{AtomicBool, Ordering};
use error::{StartError, refusal};
use paravane_abi::layout::{RAM_BASE, START_INFO};
use paravane_host::bundle::Bundle;
use paravane_host::image::Image;
use paravane_host::status::Status;
use plan::Plan;

/// What the machine's boot code calls, with the physical address of the loader's start info, on a stack of its
/// own and with the first 4 GiB mapped one to one. Called once.
pub extern "C" fn start(info: u32) -> ! {
    serial::start();
    let Err(error) = run(info);
    say(format_args!("{error}"));
    end(error.status())
}

/// Ends the machine because of a defect of the shim's own.
pub fn fail(what: Arguments<'_>) -> ! {
    static FAILED: AtomicBool = AtomicBool::new(false);
    // A failure while failing is told no more.
    if !FAILED.swap(true, Ordering::Relaxed) {
        say(format_args!("the shim failed: {what}"));
    }
    end(Status::INTERNAL)
}

/// Ends the machine, with the status on the last line.
pub(crate) fn end(status: Status) -> ! {
    say(format_args!("exit status {status}"));
    power::off(status.code())
}

/// Writes one line, or a report of several, to the serial line; not behind what the guest wrote last.
pub(crate) fn say(text: Arguments<'_>) {
    serial::end_line();
    // The line takes everything.
    let _ = writeln!(serial::Line, "paravane: {text}");
}

fn run(info: u32) -> Result<Infallible, StartError> {
    // SAFETY: the boot code's tables are in use until `activate` below, and `told` is a copy.
    let told = Told::read(&unsafe { Identity::new() }, info.into())?;
    cpu::check()?;
    let payload = plan::payload(&told.memory).ok_or(StartError::NoRam)?;
    let bundle = Bundle::parse(payload).map_err(refusal)?;
    let image = Image::read(bundle.image)?;
    let plan = Plan::new(&told.memory, &bundle, &image)?;

    let mut tables = plan.tables()?;
    plan.map(&mut tables)?;
    let selectors = segments::load();
    interrupts::load();
    open(&selectors);
    // SAFETY: the shim's code, data and stack are mapped where they are, the frames too; the guest's
    // memory is reached at addresses of the shim's own.
    unsafe {
        tables.activate();
        cpu::set_modes();
    }
    let apic = Apic::new(&mut tables)?;
    let rates = clock::rates(&apic)?;
    let devices = devices::discover(&told.command_line, &mut tables)?;
    let table = devices::describe(&devices, &bundle)?;
    devices::check(&image, &table, &bundle)?;
    devices::route(&apic, &devices)?;

    let ram = plan.ram(&mut tables)?;
    load(&image, bundle.image, &ram);
    let clock = Clock::new(rates, bundle.watchdog_seconds);
    plan.tell(&mut tables, &bundle, &table, clock.line())?;
    let entry_stack = plan.space.entry_stack();
    let domain = Box::leak(Box::new(Domain {
        name: image.manifest().name().to_owned(),
        image: bundle.image,
        space: plan.space,
        ram,
        devices,
        clock,
        apic,
        stop: Stop::default(),
    }));
    serial::enable_interrupt();
    domain.clock.watch(&domain.apic);
    // SAFETY: tables, interrupts, `syscall` registers and the guest's memory are ready.
    unsafe { enter(domain, image.entry(), entry_stack, START_INFO) }
}

/// Copies the image's segments to RAM, which is all zero.
fn load(image: &Image, file: &[u8], ram: &Ram) {
    for segment in image.segments() {
        let start = usize::try_from(segment.file_offset).unwrap_or(usize::MAX);
        let len = usize::try_from(segment.file_len).unwrap_or(usize::MAX);
        let bytes = file.get(start..).and_then(|rest| rest.get(..len)).unwrap_or(&[]);
        // The loader found the segments to lie in the file, the address space the image to lie in RAM.
        let _ = ram.write(segment.address - RAM_BASE, bytes);
    }
}
