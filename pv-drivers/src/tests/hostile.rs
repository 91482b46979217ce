//! Devices that break the rules in every way they can think of. The driver may end with an error; it
//! may not panic, hand a chain out twice, or hand one out that it does not have.
use super::{long_chain, pair, segment, shared};
use crate::block::{Block, Request, Ticket};
use crate::model::{Arena, ArenaRing, DeviceQueue, Host};
use crate::net::{FrameMeta, Net};
use crate::{Chain, RingMemory};
use core::sync::atomic::Ordering;
use core::task::{Context, Poll, Waker};
use paravane_abi::device::{BlockConfig, Device, DeviceKind, NetConfig, QueueSetup, feature};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec::Vec;

/// What a hostile device does to the used ring.
#[derive(Clone, Debug)]
enum Attack {
    /// Finishes the chain with this head, be it in flight or not.
    Finish { head: u16, written: u32 },
    /// Writes an entry without showing it.
    WriteUsed { index: u16, id: u32, written: u32 },
    /// Moves the used index.
    Jump(u16),
    /// Writes anything anywhere in the used ring.
    Scribble { at: prop::sample::Index, value: u16 },
}

/// Numbers near the limits more often than others.
fn attack() -> impl Strategy<Value = Attack> {
    let id = || prop_oneof![0_u32..10, any::<u32>()];
    let written = || prop_oneof![0_u32..100, Just(2048), any::<u32>()];
    prop_oneof![
        4 => (0_u16..10, written()).prop_map(|(head, written)| Attack::Finish { head, written }),
        1 => (any::<u16>(), id(), written())
            .prop_map(|(index, id, written)| Attack::WriteUsed { index, id, written }),
        1 => prop_oneof![0_u16..10, any::<u16>()].prop_map(Attack::Jump),
        1 => (any::<prop::sample::Index>(), any::<u16>())
            .prop_map(|(at, value)| Attack::Scribble { at, value }),
    ]
}

/// The queue that an attack goes to.
struct Victim {
    arena: Arena,
    setup: QueueSetup,
    device: DeviceQueue<ArenaRing>,
}

impl Victim {
    fn new(arena: &Arena, setup: QueueSetup) -> Self {
        let device = DeviceQueue::new(arena.ring(setup.descriptors), &setup, true);
        Self { arena: arena.clone(), setup, device }
    }

    fn suffer(&mut self, attack: &Attack) {
        match *attack {
            Attack::Finish { head, written } => self.device.finish(head, written),
            Attack::WriteUsed { index, id, written } => {
                self.device.write_used(index, id, written);
            }
            Attack::Jump(index) => self.device.set_used_index(index),
            Attack::Scribble { at, value } => {
                let len = 6 + 8 * usize::from(self.setup.size);
                let ring = self.arena.ring(self.setup.used);
                ring.store_u16(2 * at.index(len / 2), value, Ordering::Relaxed);
            }
        }
    }
}

proptest! {
    #[test]
    fn a_chain_is_handed_out_once_at_most(
        rounds in prop::collection::vec((0..4_usize, prop::collection::vec(attack(), 0..4)), 1..60),
        event_idx in any::<bool>(),
    ) {
        let arena = Arena::default();
        let features = if event_idx { feature::RING_EVENT_IDX } else { 0 };
        let (mut queue, _) = pair(&arena, 8, features);
        let mut victim = Victim::new(&arena, queue.setup());
        let mut outstanding = BTreeSet::new();
        // Shared pieces that the device may still read.
        let mut shared_count = 0;
        let mut fault = None;
        for (round, (adds, attacks)) in rounds.iter().enumerate() {
            for add in 0..*adds {
                let chain = if add == 0 { long_chain(&arena) } else { Chain::to_write(segment(&arena, 64)) };
                let token = (round, add);
                let pieces = shared(&arena, &[99; 3][..add]);
                if queue.add_sharing(&arena, chain, &pieces, token).is_ok() {
                    outstanding.insert(token);
                    shared_count += add;
                }
            }
            let _ = queue.publish();
            attacks.iter().for_each(|attack| victim.suffer(attack));
            let _ = queue.enable_events();
            loop {
                match queue.pop() {
                    Ok(Some(used)) => {
                        prop_assert_eq!(fault, None, "the queue came back to life");
                        prop_assert!(outstanding.remove(&used.token), "{:?} twice", used.token);
                        prop_assert!(u64::from(used.written) <= used.chain.writable_len());
                        shared_count -= used.token.1;
                    }
                    Ok(None) => break,
                    Err(found) => {
                        prop_assert_eq!(*fault.get_or_insert(found), found);
                        break;
                    }
                }
            }
            prop_assert_eq!(usize::from(queue.in_flight()), outstanding.len());
            prop_assert_eq!(arena.shared(), shared_count);
        }
    }

    #[test]
    fn a_network_device_cannot_break_its_driver(
        rounds in prop::collection::vec(
            (prop::collection::vec(attack(), 0..4), any::<[u8; 12]>(), 0..3_usize),
            1..40,
        ),
        features in any::<u64>(),
    ) {
        let arena = Arena::default();
        let device = Device {
            kind: DeviceKind::Net as u32,
            queue_count: 2,
            queue_size_max: 8,
            features: features | feature::VERSION_1,
            net: NetConfig { mtu: 1500, ..NetConfig::default() },
            ..Device::default()
        };
        let host = Host::new(&arena, device);
        let mut net = Net::new(arena.clone(), host.clone(), 0, &device).unwrap();
        let setups = host.attached().unwrap().queues;
        let mut receive = Victim::new(&arena, setups[0]);
        let mut transmit = Victim::new(&arena, setups[1]);
        for (attacks, header, sends) in &rounds {
            if let Some(chain) = receive.device.take() {
                // The driver may have taken the buffer back, if the device lied about it.
                arena.write_if_live(chain.writable[0].0, header);
            }
            attacks.iter().for_each(|attack| receive.suffer(attack));
            attacks.iter().take(1).for_each(|attack| transmit.suffer(attack));
            while let Ok(Some(frame)) = net.receive() {
                prop_assert!(frame.len() <= 14 + 65_535);
                prop_assert_eq!(frame.contiguous(&mut Vec::new()).len(), frame.len());
                net.recycle(frame);
            }
            for _ in 0..*sends {
                if let Some(frame) = net.transmit_buffer(100) {
                    let _ = net.commit(frame, FrameMeta::default());
                }
                let _ = net.send(&[0; 60], &shared(&arena, &[3000, 10]), FrameMeta::default());
                prop_assert!(arena.shared() <= 2 * 8);
            }
            net.flush();
            let _ = net.enable_events();
        }
    }

    #[test]
    fn a_block_device_cannot_break_its_driver(
        rounds in prop::collection::vec((0..4_u64, prop::collection::vec(attack(), 0..4)), 1..40),
    ) {
        let arena = Arena::default();
        let device = Device {
            kind: DeviceKind::Block as u32,
            queue_count: 1,
            queue_size_max: 8,
            features: feature::VERSION_1 | feature::RING_EVENT_IDX | feature::BLK_FLUSH,
            block: BlockConfig { capacity: 100, segments_max: 1, discard_sectors_max: 0 },
            ..Device::default()
        };
        let host = Host::new(&arena, device);
        let mut block = Block::new(arena.clone(), host.clone(), 0, &device).unwrap();
        let mut victim = Victim::new(&arena, host.attached().unwrap().queues[0]);
        let mut context = Context::from_waker(Waker::noop());
        let mut tickets: Vec<Option<Ticket>> = Vec::new();
        for (sector, attacks) in &rounds {
            let buffer = block.buffer(512).unwrap();
            let mut request = Some(Request::Read { sector: *sector, buffer, len: 512 });
            if let Poll::Ready(Ok(ticket)) = block.poll_submit(&mut request, &mut context) {
                tickets.push(Some(ticket));
            }
            block.kick();
            attacks.iter().for_each(|attack| victim.suffer(attack));
            block.poll(&mut Vec::new());
            let _ = block.enable_events();
            for ticket in &mut tickets {
                // The device never writes a status, so nothing succeeds.
                let outcome = block.poll_outcome(ticket, &mut context);
                prop_assert!(!matches!(outcome, Poll::Ready(Ok(_))));
            }
            tickets.retain(Option::is_some);
        }
    }
}
