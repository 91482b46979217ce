//! Devices of the MMIO transport, as the command line names them: there is no other way to find them
//! (virtio 1.2, 4.2.1). The parameter is that of Linux, which QEMU and Firecracker write.
use alloc::string::{String, ToString};

/// Beginning of the parameter `virtio_mmio.device=<size>@<base>:<irq>[:<id>]`.
pub const DEVICE_PARAMETER: &str = "virtio_mmio.device=";

/// The command line names a device that it does not describe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{parameter:?} on the command line is not of the form \
     {DEVICE_PARAMETER}<size>@<base>:<interrupt>[:<id>], such as {DEVICE_PARAMETER}4K@0xc0001000:5"
)]
pub struct ParameterError {
    /// The malformed parameter.
    pub parameter: String,
}

/// One device of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    /// Physical address of the registers.
    pub(super) base: u64,
    /// Bytes of the registers. `base + len` does not overflow.
    pub(super) len: u64,
    /// The interrupt line.
    pub(super) irq: u32,
}

/// The devices on a command line, in its order.
pub(super) fn parse(
    command_line: &str,
) -> impl Iterator<Item = Result<Parameter, ParameterError>> + '_ {
    command_line.split_ascii_whitespace().filter_map(|word| {
        let value = word.strip_prefix(DEVICE_PARAMETER)?;
        Some(parameter(value).ok_or_else(|| ParameterError { parameter: word.to_string() }))
    })
}

fn parameter(value: &str) -> Option<Parameter> {
    let (len, place) = value.split_once('@')?;
    let mut place = place.split(':');
    let (len, base) = (size(len)?, number(place.next()?)?);
    let irq = place.next()?.parse().ok()?;
    // The number that Linux gives the device: of no meaning here.
    if let Some(id) = place.next() {
        id.parse::<i32>().ok()?;
    }
    let is_range = len > 0 && base.checked_add(len).is_some();
    (is_range && place.next().is_none()).then_some(Parameter { base, len, irq })
}

fn size(text: &str) -> Option<u64> {
    let shift = match text.as_bytes().last()? {
        b'K' | b'k' => 10,
        b'M' | b'm' => 20,
        b'G' | b'g' => 30,
        _ => 0,
    };
    let digits = if shift == 0 { text } else { &text[..text.len() - 1] };
    number(digits)?.checked_mul(1 << shift)
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn devices_are_found_in_order() {
        let line = "console=ttyS0 virtio_mmio.device=4K@0xc0001000:5 quiet\n\
                    virtio_mmio.device=512@4273995264:12:3  virtio_mmio.device=0x1M@0XA:0:-1";
        let found: Result<Vec<_>, _> = parse(line).collect();
        assert_eq!(
            found.unwrap(),
            [
                Parameter { base: 0xc000_1000, len: 4096, irq: 5 },
                Parameter { base: 0xfebf_fe00, len: 512, irq: 12 },
                Parameter { base: 10, len: 1 << 20, irq: 0 },
            ]
        );
    }

    #[test]
    fn other_parameters_are_not_looked_at() {
        assert_eq!(parse("").count(), 0);
        assert_eq!(parse("virtio_mmio.device xvirtio_mmio.device=1@1:1 --config=x").count(), 0);
    }

    #[test]
    fn malformed_devices_are_refused() {
        for value in [
            "",
            "4K",
            "4K@",
            "4K@0xc0001000",
            "4K@0xc0001000:",
            "4K@0xc0001000:x",
            "4K@0xc0001000:-5",
            "4K@0xc0001000:5:",
            "4K@0xc0001000:5:x",
            "4K@0xc0001000:5:1:1",
            "@0xc0001000:5",
            "K@0xc0001000:5",
            "4Q@0xc0001000:5",
            "4é@0xc0001000:5",
            "0@0xc0001000:5",
            "4K@0xffffffffffffffff:5",
            "18446744073709551615K@0:5",
            "4K@c0001000:5",
            "4K@0x10000000000000000:5",
            "4K@0xc0001000:4294967296",
        ] {
            let parameter = alloc::format!("{DEVICE_PARAMETER}{value}");
            let line = alloc::format!("a {parameter} b");
            let found: Vec<_> = parse(&line).collect();
            assert_eq!(found, [Err(ParameterError { parameter })]);
        }
    }

    #[test]
    fn the_error_says_what_is_expected() {
        let error = parse("virtio_mmio.device=4K").next().unwrap().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"virtio_mmio.device=4K\" on the command line is not of the form \
             virtio_mmio.device=<size>@<base>:<interrupt>[:<id>], such as \
             virtio_mmio.device=4K@0xc0001000:5"
        );
    }

    proptest! {
        #[test]
        fn any_command_line_is_parsed_or_refused(
            words in prop::collection::vec("(virtio_mmio\\.device=)?[0-9a-fxKMG@:é-]{0,24}", 0..6),
        ) {
            for found in parse(&words.join(" ")).flatten() {
                prop_assert!(found.len > 0 && found.base.checked_add(found.len).is_some());
            }
        }

        #[test]
        fn what_is_written_is_read(base in 0..u64::MAX / 2, len in 1..1_u64 << 40, irq: u32) {
            let expect = Parameter { base, len, irq };
            let hex = alloc::format!("{DEVICE_PARAMETER}{len}@{base:#x}:{irq}");
            prop_assert_eq!(parse(&hex).next(), Some(Ok(expect)));
            let decimal = alloc::format!("{DEVICE_PARAMETER}{len:#x}@{base}:{irq}:7");
            prop_assert_eq!(parse(&decimal).next(), Some(Ok(expect)));
        }
    }
}
