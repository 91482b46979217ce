//! The host side of a network device, with a hostile guest.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use paravane::devices::NetDevice;
use paravane::net::wire;
use paravane_abi::device::NetConfig;
use paravane_fuzz::guest::{Guest, Move};

#[derive(Arbitrary, Debug)]
enum Step {
    Guest(Move),
    /// A frame comes in, header included.
    Frame(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
struct Input {
    features: u64,
    steps: Vec<Step>,
}

fuzz_target!(|input: Input| {
    let (guests, mut wire) = wire::pair().expect("there are descriptors");
    let mut device = NetDevice::new("net", guests.into(), NetConfig::default());
    let mut guest = Guest::attach(&mut device, input.features);
    for step in &input.steps {
        match step {
            Step::Guest(step) => {
                if !guest.play(&mut device, step) {
                    break;
                }
            }
            // What finds no room is lost.
            Step::Frame(frame) => _ = wire.outgoing.send(frame),
        }
    }
    let mut message = [0; 0x1_1000];
    while let Some(len) = wire.incoming.receive(&mut message).expect("the ring is in order") {
        assert!((12 + 14..=12 + 14 + 65_535).contains(&len), "a frame of {len} bytes went out");
        assert_eq!(message[0] & !1, 0, "undefined flags went out");
    }
});
