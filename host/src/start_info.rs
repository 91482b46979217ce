//! The start info page.
use crate::space::AddressSpace;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use paravane_abi::device::{DEVICES_MAX, Device, Ipv6Config};
use paravane_abi::layout::{CONFIG, CONFIG_LEN_MAX, HYPERCALL_PAGE, RAM_BASE, TIME_PAGE};
use paravane_abi::start_info::{COMMAND_LINE_LEN_MAX, MAGIC, SEED_LEN, StartInfo};
use zerocopy::FromZeros;

/// What the operator hands to the guest does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StartInfoError {
    /// The arguments are too long.
    #[error("the arguments for the guest are longer than {COMMAND_LINE_LEN_MAX} bytes altogether")]
    CommandLine,
    /// An argument cannot be passed.
    #[error("an argument for the guest contains a NUL byte")]
    Nul,
    /// The configuration is too long.
    #[error("the configuration is longer than {} KiB", CONFIG_LEN_MAX >> 10)]
    Config,
    /// Too many devices.
    #[error("a guest can have at most {DEVICES_MAX} devices")]
    Devices,
}

/// What a guest is told besides where its memory is.
#[derive(Debug)]
pub struct Told<'a> {
    /// The device table.
    pub devices: &'a [Device],
    /// IPv6 of the devices, in the same order.
    pub ipv6: &'a [Ipv6Config],
    /// The arguments.
    pub arguments: &'a [String],
    /// Bytes of configuration.
    pub config_len: usize,
    /// Device address of RAM offset 0.
    pub dma_offset: u64,
    /// Fresh random bytes.
    pub seed: [u8; SEED_LEN],
}

/// Builds the start info of a domain.
///
/// # Errors
/// What the guest is to be told does not fit.
pub fn build(space: &AddressSpace, told: &Told<'_>) -> Result<Box<StartInfo>, StartInfoError> {
    let mut info = Box::new(StartInfo::new_zeroed());
    info.magic = MAGIC;
    info.abi_version = paravane_abi::ABI_VERSION;
    info.size = u32::try_from(size_of::<StartInfo>()).unwrap_or(0);
    info.ram_base = RAM_BASE;
    info.ram_size = space.ram_size();
    info.image_end = space.stack_base();
    info.stack_base = space.stack_base();
    info.stack_size = space.stack_size();
    info.stack_slots = space.stack_slots();
    info.hypercall_page = HYPERCALL_PAGE;
    info.time_page = TIME_PAGE;
    info.config = CONFIG;
    info.config_len = u32::try_from(told.config_len)
        .ok()
        .filter(|&len| u64::from(len) <= CONFIG_LEN_MAX)
        .ok_or(StartInfoError::Config)?;
    info.dma_offset = told.dma_offset;
    info.seed = told.seed;
    fill_arguments(&mut info, told.arguments)?;
    fill_devices(&mut info, told)?;
    Ok(info)
}

fn fill_arguments(info: &mut StartInfo, arguments: &[String]) -> Result<(), StartInfoError> {
    let mut line = Vec::new();
    for argument in arguments {
        if argument.as_bytes().contains(&0) {
            return Err(StartInfoError::Nul);
        }
        line.extend_from_slice(argument.as_bytes());
        line.push(0);
    }
    let space = info.command_line.get_mut(..line.len()).ok_or(StartInfoError::CommandLine)?;
    space.copy_from_slice(&line);
    info.command_line_len = u32::try_from(line.len()).unwrap_or(0);
    Ok(())
}

fn fill_devices(info: &mut StartInfo, told: &Told<'_>) -> Result<(), StartInfoError> {
    let table = info.devices.get_mut(..told.devices.len()).ok_or(StartInfoError::Devices)?;
    table.copy_from_slice(told.devices);
    let ipv6 = info.ipv6.get_mut(..told.ipv6.len()).ok_or(StartInfoError::Devices)?;
    ipv6.copy_from_slice(told.ipv6);
    info.device_count = u32::try_from(told.devices.len()).unwrap_or(0);
    Ok(())
}
