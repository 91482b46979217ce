//! The argument of `ATTACH`, which the host reads.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use paravane_abi::device::{Attach, Device, feature};
use zerocopy::FromBytes;

#[derive(Arbitrary, Debug)]
struct Input {
    queue_count: u16,
    queue_size_max: u16,
    features: u64,
    dma_offset: u64,
    ram_size: u64,
    attach: [u8; size_of::<Attach>()],
}

fuzz_target!(|input: Input| {
    let device = Device {
        queue_count: input.queue_count,
        queue_size_max: input.queue_size_max,
        features: input.features,
        ..Device::default()
    };
    let parsed = Attach::parse(&input.attach, &device, input.dma_offset, input.ram_size);
    let Ok(attach) = parsed else { return };
    assert_eq!(Attach::read_from_bytes(&input.attach), Ok(attach));
    assert_eq!(attach.features & !device.features, 0);
    assert_ne!(attach.features & feature::VERSION_1, 0);
    for queue in &attach.queues[..usize::from(device.queue_count)] {
        assert!(queue.size.is_power_of_two() && queue.size <= device.queue_size_max);
        let size = u64::from(queue.size);
        let parts = [
            (queue.descriptors, 16 * size),
            (queue.available, 6 + 2 * size),
            (queue.used, 6 + 8 * size),
        ];
        for (address, len) in parts {
            let end = u128::from(address) + u128::from(len);
            assert!(address >= input.dma_offset);
            assert!(end <= u128::from(input.dma_offset) + u128::from(input.ram_size));
        }
    }
});
