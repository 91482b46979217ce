//! The network front-end with a hostile device: used rings and frame headers.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use paravane_abi::device::{Device, DeviceKind, NetConfig, feature};
use paravane_fuzz::{Attack, Victim};
use paravane_pv_drivers::model::{Arena, Host};
use paravane_pv_drivers::net::{FrameMeta, Net};

#[derive(Arbitrary, Debug)]
enum Step {
    /// The device writes this to the next receive buffer and returns it.
    Deliver {
        bytes: Vec<u8>,
        written: u16,
    },
    AttackReceive(Attack),
    AttackTransmit(Attack),
    Receive {
        recycle: bool,
    },
    Transmit {
        len: u16,
    },
    Send {
        pieces: Vec<u16>,
    },
    Flush,
    EnableEvents,
}

#[derive(Arbitrary, Debug)]
struct Input {
    features: u64,
    mtu: u16,
    steps: Vec<Step>,
}

fn step(net: &mut Net<Arena, Host>, arena: &Arena, victims: &mut [Victim; 2], step: &Step) {
    match step {
        Step::Deliver { bytes, written } => {
            let Some(chain) = victims[0].device.take() else { return };
            let len = bytes.len().min(chain.writable[0].1 as usize);
            // The driver may have freed the buffer, if the device lied about it.
            arena.write_if_live(chain.writable[0].0, &bytes[..len]);
            victims[0].device.finish(chain.head, u32::from(*written));
        }
        Step::AttackReceive(attack) => victims[0].suffer(attack),
        Step::AttackTransmit(attack) => victims[1].suffer(attack),
        Step::Receive { recycle } => {
            let Ok(Some(frame)) = net.receive() else { return };
            assert!(frame.len() <= 14 + 65_535);
            assert_eq!(frame.contiguous(&mut Vec::new()).len(), frame.len());
            if *recycle {
                net.recycle(frame);
            }
        }
        Step::Transmit { len } => {
            let Some(frame) = net.transmit_buffer(usize::from(*len)) else { return };
            assert_eq!(frame.len(), usize::from(*len));
            let _ = net.commit(frame, FrameMeta::default());
        }
        Step::Send { pieces } => {
            let piece = |len: &u16| paravane_fuzz::shared().slice(..usize::from(*len));
            let pieces: Vec<_> = pieces.iter().map(piece).collect();
            let _ = net.send(&[0; 54], &pieces, FrameMeta::default());
        }
        Step::Flush => net.flush(),
        Step::EnableEvents => {
            let _ = net.enable_events();
        }
    }
}

fuzz_target!(|input: Input| {
    let arena = paravane_fuzz::arena();
    let device = Device {
        kind: DeviceKind::Net as u32,
        queue_count: 2,
        queue_size_max: 16,
        features: input.features | feature::VERSION_1,
        net: NetConfig { mtu: input.mtu, ..NetConfig::default() },
        ..Device::default()
    };
    let host = Host::new(&arena, device);
    let mut net = Net::new(arena.clone(), host.clone(), 0, &device).expect("the device is good");
    let queues = host.attached().expect("it was attached").queues;
    let mut victims = [0, 1].map(|i| Victim::new(&arena, queues[i]));
    for action in &input.steps {
        step(&mut net, &arena, &mut victims, action);
    }
    drop(net);
    // SAFETY: whoever used it was dropped just now.
    unsafe { arena.free_leaked() };
});
