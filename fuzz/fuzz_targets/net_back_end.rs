//! The host side of a network device, with a hostile guest.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use paravane::devices::{FrameDescriptor, NetDevice};
use paravane_abi::device::NetConfig;
use paravane_fuzz::guest::{Guest, Move};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};

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
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (wire, guests) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .expect("there are descriptors");
    let mut device = NetDevice::new("net", FrameDescriptor::Socket(guests), NetConfig::default());
    let mut guest = Guest::attach(&mut device, input.features);
    for step in &input.steps {
        match step {
            Step::Guest(step) => {
                if !guest.play(&mut device, step) {
                    break;
                }
            }
            Step::Frame(frame) => drop(send(&wire, frame, SendFlags::empty())),
        }
    }
    let mut message = [0; 0x1_1000];
    while let Ok((len, _)) = recv(&wire, &mut message[..], RecvFlags::empty()) {
        assert!((12 + 14..=12 + 14 + 65_535).contains(&len), "a frame of {len} bytes went out");
        assert_eq!(message[0] & !1, 0, "undefined flags went out");
    }
});
