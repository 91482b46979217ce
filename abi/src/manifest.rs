//! The image manifest: what an image says of itself in an ELF note.
//!
//! An image is a static, non-relocatable ELF64 executable (`ET_EXEC`, `EM_X86_64`) whose segments lie
//! at or above [`crate::layout::IMAGE_BASE`], page-aligned, not overlapping, and never writable and
//! executable at once. It carries exactly one note with name [`NOTE_NAME`] and type [`NOTE_TYPE`] in
//! a `PT_NOTE` segment; the note's descriptor is a [`Manifest`].
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Name of the manifest's ELF note, with its terminating NUL.
pub const NOTE_NAME: &[u8; 9] = b"Paravane\0";

/// Type of the manifest's ELF note.
pub const NOTE_TYPE: u32 = 1;

/// Most devices an image can ask for.
pub const MANIFEST_DEVICES_MAX: usize = 8;

/// Smallest stack slot, bytes, guard page included.
pub const STACK_SIZE_MIN: u32 = 16 << 10;

/// Largest stack slot, bytes, guard page included.
pub const STACK_SIZE_MAX: u32 = 8 << 20;

/// Most stack slots.
pub const STACK_SLOTS_MAX: u32 = 1024;

/// What an image needs of its host. IN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Manifest {
    /// The contract that the image was built for, see [`crate::ABI_VERSION`].
    pub abi_version: u32,
    /// Bytes of one stack slot, guard page included: a power of two.
    pub stack_size: u32,
    /// Number of stack slots, at least 1. Slot 0 is the stack that the image is entered on.
    pub stack_slots: u32,
    /// Number of entries of `devices` in use.
    pub device_count: u32,
    /// Least RAM that the image works in, bytes.
    pub ram_size_min: u64,
    /// Name of the image, UTF-8, padded with NUL.
    pub name: [u8; 32],
    /// The devices that the image knows how to use.
    pub devices: [ManifestDevice; MANIFEST_DEVICES_MAX],
}

/// One device that an image expects. IN.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ManifestDevice {
    /// A [`crate::device::DeviceKind`].
    pub kind: u32,
    /// 1 if the image does not start without the device, 0 if it does.
    pub required: u32,
}

/// Why a manifest is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestError {
    /// The descriptor has another size than [`Manifest`].
    Length,
    /// The contract version is not one that this host speaks.
    Version(u32),
    /// The stack slots' size or number is out of range.
    Stack,
    /// More devices than the table has room for, or an unknown kind or flag.
    Device,
    /// The name is empty, not UTF-8, or not padded with NUL.
    Name,
}

impl Manifest {
    /// Builds the manifest of an image, for use in a `static` in its note section.
    ///
    /// # Panics
    /// At compile time, if the name does not fit or there are too many devices.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "bounded by MANIFEST_DEVICES_MAX")]
    pub const fn new(name: &str, ram_size_min: u64, devices: &[ManifestDevice]) -> Self {
        let mut manifest = Self {
            abi_version: crate::ABI_VERSION,
            stack_size: 256 << 10,
            stack_slots: 1,
            device_count: devices.len() as u32,
            ram_size_min,
            name: [0; 32],
            devices: [ManifestDevice { kind: 0, required: 0 }; MANIFEST_DEVICES_MAX],
        };
        let mut i = 0;
        while i < name.len() {
            manifest.name[i] = name.as_bytes()[i];
            i += 1;
        }
        let mut i = 0;
        while i < devices.len() {
            manifest.devices[i] = devices[i];
            i += 1;
        }
        manifest
    }

    /// The same manifest with `slots` stacks of `size` bytes each.
    #[must_use]
    pub const fn with_stacks(mut self, slots: u32, size: u32) -> Self {
        self.stack_slots = slots;
        self.stack_size = size;
        self
    }

    /// Reads and validates the descriptor of a manifest note.
    ///
    /// # Errors
    /// The first rule that the bytes break.
    pub fn parse(descriptor: &[u8]) -> Result<Self, ManifestError> {
        let manifest = Self::read_from_bytes(descriptor).map_err(|_| ManifestError::Length)?;
        if !crate::is_compatible(crate::ABI_VERSION, manifest.abi_version) {
            return Err(ManifestError::Version(manifest.abi_version));
        }
        let stack_ok = manifest.stack_size.is_power_of_two()
            && (STACK_SIZE_MIN..=STACK_SIZE_MAX).contains(&manifest.stack_size)
            && (1..=STACK_SLOTS_MAX).contains(&manifest.stack_slots);
        if !stack_ok {
            return Err(ManifestError::Stack);
        }
        manifest.checked_devices().ok_or(ManifestError::Device)?;
        manifest.checked_name().ok_or(ManifestError::Name)?;
        Ok(manifest)
    }

    /// The devices in use.
    #[must_use]
    pub fn devices(&self) -> &[ManifestDevice] {
        self.checked_devices().unwrap_or(&[])
    }

    /// The image's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.checked_name().unwrap_or("")
    }

    /// Bytes of all stack slots together.
    #[must_use]
    pub fn stacks_len(&self) -> u64 {
        u64::from(self.stack_size) * u64::from(self.stack_slots)
    }

    fn checked_devices(&self) -> Option<&[ManifestDevice]> {
        let devices = self.devices.get(..usize::try_from(self.device_count).ok()?)?;
        let known = |d: &ManifestDevice| {
            crate::device::DeviceKind::from_raw(d.kind).is_some() && d.required <= 1
        };
        devices.iter().all(known).then_some(devices)
    }

    fn checked_name(&self) -> Option<&str> {
        let len = self.name.iter().position(|&b| b == 0).unwrap_or(self.name.len());
        let (name, padding) = self.name.split_at(len);
        let clean = !name.is_empty() && padding.iter().all(|&b| b == 0);
        core::str::from_utf8(name).ok().filter(|n| clean && !n.chars().any(char::is_control))
    }
}

/// The manifest as it stands in an image: a complete ELF note, to be placed in section
/// `.note.paravane`.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(4))]
pub struct ManifestNote {
    name_len: u32,
    descriptor_len: u32,
    kind: u32,
    name: [u8; 12],
    descriptor: Manifest,
}

impl ManifestNote {
    /// Wraps a manifest in its note header.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "two small constants")]
    pub const fn new(descriptor: Manifest) -> Self {
        Self {
            name_len: NOTE_NAME.len() as u32,
            descriptor_len: size_of::<Manifest>() as u32,
            kind: NOTE_TYPE,
            name: *b"Paravane\0\0\0\0",
            descriptor,
        }
    }

    /// The manifest in the note.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.descriptor
    }
}

// The note's descriptor follows the padded name directly, as ELF wants it.
const _: () = assert!(core::mem::offset_of!(ManifestNote, descriptor) == 24);
const _: () = assert!(size_of::<Manifest>() == 120);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceKind;

    fn web() -> Manifest {
        let net = ManifestDevice { kind: DeviceKind::Net as u32, required: 1 };
        Manifest::new("web", 16 << 20, &[net]).with_stacks(4, 64 << 10)
    }

    #[test]
    fn a_manifest_survives_the_round_trip() {
        let manifest = web();
        assert_eq!(Manifest::parse(manifest.as_bytes()), Ok(manifest));
        assert_eq!(manifest.name(), "web");
        assert_eq!(manifest.devices().len(), 1);
        assert_eq!(manifest.stacks_len(), 256 << 10);
    }

    #[test]
    fn each_rule_refuses() {
        let check = |change: fn(&mut Manifest), expect| {
            let mut manifest = web();
            change(&mut manifest);
            assert_eq!(Manifest::parse(manifest.as_bytes()), Err(expect));
        };
        check(|m| m.abi_version = 0x2_0000, ManifestError::Version(0x2_0000));
        check(|m| m.stack_size = 100_000, ManifestError::Stack);
        check(|m| m.stack_slots = 0, ManifestError::Stack);
        check(|m| m.stack_slots = 1025, ManifestError::Stack);
        check(|m| m.device_count = 9, ManifestError::Device);
        check(|m| m.devices[0].kind = 77, ManifestError::Device);
        check(|m| m.devices[0].required = 2, ManifestError::Device);
        check(|m| m.name = [0; 32], ManifestError::Name);
        check(|m| m.name[0] = 0xff, ManifestError::Name);
        check(|m| m.name[31] = b'x', ManifestError::Name);
        check(|m| m.name[0] = b'\n', ManifestError::Name);
        assert_eq!(Manifest::parse(&[0; 119]), Err(ManifestError::Length));
    }
}
