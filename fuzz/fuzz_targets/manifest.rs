//! The manifest of an image, which the host reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use paravane_abi::manifest::{MANIFEST_DEVICES_MAX, Manifest, STACK_SIZE_MAX, STACK_SLOTS_MAX};
use zerocopy::IntoBytes;

fuzz_target!(|bytes: &[u8]| {
    // Most inputs have a wrong length: those that are long enough are also tried without the rest.
    for bytes in [bytes, &bytes[..bytes.len().min(size_of::<Manifest>())]] {
        let Ok(manifest) = Manifest::parse(bytes) else { continue };
        assert_eq!(manifest.as_bytes(), bytes);
        assert!(!manifest.name().is_empty());
        assert!(manifest.devices().len() <= MANIFEST_DEVICES_MAX);
        assert!(manifest.stacks_len() <= u64::from(STACK_SIZE_MAX) * u64::from(STACK_SLOTS_MAX));
    }
});
