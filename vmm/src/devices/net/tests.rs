//! The device between a model driver and a wire.
use super::super::test_driver::{BUFFERS, DriverQueue, RAM_SIZE, Raw, WRITE, attach};
use super::super::{Device, GuestFault};
use super::NetDevice;
use crate::memory::GuestRam;
use crate::net::wire::{self, Wants};
use paravane_abi::device::{NetConfig, feature};
use proptest::prelude::*;

/// A device in use, and everything around it.
struct Bench {
    ram: GuestRam,
    device: NetDevice,
    receive: DriverQueue,
    transmit: DriverQueue,
    wire: wire::End,
}

impl Bench {
    fn new(features: u64) -> Self {
        let (guests, wire) = wire::pair().unwrap();
        let mut device = NetDevice::new("net", guests.into(), NetConfig::default());
        let (ram, mut queues, attach) = attach(&device.entry(), features);
        device.attach(&ram, &attach).unwrap();
        let transmit = queues.pop().unwrap();
        Self { ram, device, receive: queues.pop().unwrap(), transmit, wire }
    }

    fn all_features() -> Self {
        Self::new(super::device::FEATURES)
    }

    fn send(&mut self, message: &[u8]) {
        assert!(self.wire.outgoing.send(message));
    }

    fn sent(&mut self) -> Option<Vec<u8>> {
        let mut message = vec![0; 0x2_0000];
        let len = self.wire.incoming.receive(&mut message).unwrap()?;
        message.truncate(len);
        Some(message)
    }

    fn poll(&mut self) -> Result<bool, GuestFault> {
        self.device.poll(&self.ram)
    }

    /// What the device sleeps on; none if it would not sleep, as there is some of it.
    fn wants(&self) -> Option<Wants> {
        let mut descriptors = Vec::new();
        self.device.interests(&mut descriptors);
        let Some(descriptor) = descriptors.first_mut() else { return Some(Wants::default()) };
        // SAFETY: one descriptor, which lives across the call.
        let rings = unsafe { libc::poll(descriptor, 1, 0) } > 0;
        (!rings).then(|| self.wire.peer_wants())
    }
}

fn message(len: usize) -> Vec<u8> {
    let mut message = vec![0; 12];
    message.extend((0..len - 12).map(|i| (i % 251).to_le_bytes()[0]));
    message
}

#[test]
fn a_frame_is_sent_however_it_is_spread_over_descriptors() {
    for cuts in [&[100][..], &[12, 88], &[5, 7, 1, 87], &[99, 1], &[0, 50, 0, 50]] {
        let mut bench = Bench::all_features();
        bench.transmit.put(BUFFERS, &message(100));
        let mut at = BUFFERS;
        let chain: Vec<_> = cuts
            .iter()
            .map(|&len| {
                at += u64::from(len);
                (at - u64::from(len), len, 0)
            })
            .collect();
        let head = bench.transmit.add(&chain);
        bench.device.notify(&bench.ram, 1).unwrap();
        assert_eq!(bench.sent().unwrap(), message(100), "{cuts:?}");
        assert_eq!(bench.transmit.take(), Some((head, 0)));
    }
}

/// As a driver sends that leaves an application's bytes where they are.
#[test]
fn a_frame_may_take_every_descriptor_of_the_queue() {
    let mut bench = Bench::all_features();
    let frame = message(12 + 256 * 250);
    bench.transmit.put(BUFFERS, &frame);
    let chain = |count: u64| -> Vec<_> {
        let share = frame.len() as u64 / count;
        let len = |i| if i + 1 < count { share } else { frame.len() as u64 - i * share };
        (0..count).map(|i| (BUFFERS + i * share, u32::try_from(len(i)).unwrap(), 0)).collect()
    };
    for count in [2, 17, 255, 256] {
        let head = bench.transmit.add(&chain(count));
        bench.device.notify(&bench.ram, 1).unwrap();
        assert!(bench.sent().unwrap() == frame, "{count} descriptors");
        assert_eq!(bench.transmit.take(), Some((head, 0)));
    }
}

#[test]
fn a_full_wire_is_waited_for_and_nothing_is_lost() {
    const COUNT: usize = 200;
    let mut bench = Bench::all_features();
    bench.transmit.put(BUFFERS, &message(60_000));
    (0..COUNT).for_each(|_| {
        bench.transmit.add(&[(BUFFERS, 60_000, 0)]);
    });
    bench.device.notify(&bench.ram, 1).unwrap();
    assert!(bench.wants().is_some_and(|wants| wants.room));
    let mut received = 0;
    while received < COUNT {
        assert_eq!(bench.sent().unwrap().len(), 60_000);
        received += 1;
        bench.poll().unwrap();
    }
    assert_eq!(bench.sent(), None);
    assert_eq!(bench.wants(), Some(Wants::default()));
    assert_eq!(std::iter::from_fn(|| bench.transmit.take()).count(), COUNT);
}

#[test]
fn frames_without_a_listener_are_lost_not_fatal() {
    let mut bench = Bench::all_features();
    bench.wire.close();
    bench.transmit.put(BUFFERS, &message(60));
    let head = bench.transmit.add(&[(BUFFERS, 60, 0)]);
    bench.receive.add(&[(BUFFERS, 4096, WRITE)]);
    bench.poll().unwrap();
    assert_eq!(bench.transmit.take(), Some((head, 0)));
    assert_eq!(bench.wants(), Some(Wants::default()));
}

#[test]
fn a_long_frame_spans_buffers_and_the_rest_stay() {
    let mut bench = Bench::all_features();
    let heads: Vec<u16> =
        (0..40).map(|i| bench.receive.add(&[(BUFFERS + i * 2048, 2048, WRITE)])).collect();
    bench.send(&message(5000));
    bench.send(&message(60));
    bench.poll().unwrap();
    let mut expect = message(5000);
    expect[10] = 3; // num_buffers
    assert_eq!(bench.receive.get(BUFFERS, 5000), expect);
    let mut expect = message(60);
    expect[10] = 1;
    assert_eq!(bench.receive.get(BUFFERS + 3 * 2048, 60), expect);
    let used: Vec<_> = std::iter::from_fn(|| bench.receive.take()).collect();
    assert_eq!(used, [(heads[0], 2048), (heads[1], 2048), (heads[2], 904), (heads[3], 60)]);
}

#[test]
fn without_merging_a_frame_takes_one_buffer_or_is_lost() {
    let mut bench = Bench::new(feature::VERSION_1);
    let small = bench.receive.add(&[(BUFFERS, 100, WRITE), (BUFFERS + 4096, 100, WRITE)]);
    let large = bench.receive.add(&[(BUFFERS + 8192, 2048, WRITE)]);
    for len in [300, 150, 1000] {
        bench.send(&message(len));
    }
    bench.poll().unwrap();
    let used: Vec<_> = std::iter::from_fn(|| bench.receive.take()).collect();
    assert_eq!(used, [(small, 150), (large, 1000)]);
    assert_eq!(bench.receive.get(BUFFERS + 4096, 50), message(150)[100..]);
}

#[test]
fn reading_waits_for_buffers() {
    let mut bench = Bench::all_features();
    bench.send(&message(60));
    assert!(!bench.poll().unwrap());
    assert_eq!(bench.wants(), Some(Wants::default()));
    bench.receive.add(&[(BUFFERS, 4096, WRITE)]);
    assert!(bench.poll().unwrap());
    assert!(bench.receive.take().is_some());
}

#[test]
fn a_long_frame_waits_until_the_guest_has_as_many_buffers_as_before() {
    let mut bench = Bench::all_features();
    let add = |bench: &mut Bench, count: u64| {
        (0..count).for_each(|i| {
            bench.receive.add(&[(BUFFERS + i * 8192, 8192, WRITE)]);
        });
    };
    add(&mut bench, 9);
    for _ in 0..2 {
        bench.send(&message(60_000));
    }
    bench.poll().unwrap();
    assert_eq!(std::iter::from_fn(|| bench.receive.take()).count(), 8);
    add(&mut bench, 8);
    bench.poll().unwrap();
    assert_eq!(std::iter::from_fn(|| bench.receive.take()).count(), 8);
}

#[test]
fn the_guest_is_told_when_it_asked() {
    let mut bench = Bench::all_features();
    (0..4).for_each(|i| {
        bench.receive.add(&[(BUFFERS + i * 0x1_1000, 0x1_1000, WRITE)]);
    });
    bench.receive.set_used_event(1);
    bench.send(&message(60));
    assert!(!bench.poll().unwrap());
    bench.send(&message(60));
    assert!(bench.poll().unwrap());
    bench.send(&message(60));
    assert!(!bench.poll().unwrap());
    assert!(!bench.poll().unwrap());
}

#[test]
fn the_device_asks_to_be_told_of_the_next_frame_to_send() {
    let mut bench = Bench::all_features();
    bench.transmit.put(BUFFERS, &message(60));
    for count in 1..4 {
        bench.transmit.add(&[(BUFFERS, 60, 0)]);
        bench.device.notify(&bench.ram, 1).unwrap();
        assert_eq!(bench.transmit.available_event(), count);
    }
}

#[test]
fn a_device_that_is_not_attached_does_nothing() {
    let Bench { ram, device, .. } = Bench::all_features();
    let mut device = NetDevice::new("net", device.frames, NetConfig::default());
    assert_eq!(device.poll(&ram), Ok(false));
    assert_eq!(device.notify(&ram, 1), Ok(()));
}

/// One malformed thing, and part of the sentence about it.
#[test]
fn each_rule_of_the_queues_ends_the_domain() {
    let check = |what: &str, spoil: fn(&mut Bench)| {
        let mut bench = Bench::all_features();
        spoil(&mut bench);
        let fault = bench.poll().unwrap_err();
        assert!(fault.what.contains(what), "{what}: {fault}");
    };
    check("loops", |b| {
        b.transmit.describe(0, Raw { address: BUFFERS, len: 1, flags: 1, next: 1 });
        b.transmit.describe(1, Raw { address: BUFFERS, len: 1, flags: 1, next: 0 });
        b.transmit.offer(0);
    });
    check("not in RAM", |b| {
        b.transmit.add(&[(RAM_SIZE - 10, 100, 0)]);
    });
    check("not in RAM", |b| {
        b.transmit.add(&[(u64::MAX - 10, 100, 0)]);
    });
    check("not in RAM", |b| {
        b.transmit.add(&[(BUFFERS, u32::MAX, 0)]);
    });
    check("indirect", |b| {
        b.transmit.add(&[(BUFFERS, 64, 4)]);
    });
    check("writable", |b| {
        b.transmit.add(&[(BUFFERS, 60, 0), (BUFFERS, 10, WRITE)]);
    });
    check("readable descriptor follows", |b| {
        b.transmit.add(&[(BUFFERS, 60, WRITE), (BUFFERS, 10, 0)]);
    });
    check("descriptor 256 is named", |b| b.transmit.offer(256));
    check("descriptor 999 is named", |b| {
        b.transmit.describe(0, Raw { address: BUFFERS, len: 1, flags: 1, next: 999 });
        b.transmit.offer(0);
    });
    check("available ring index", |b| b.transmit.set_available(257));
    check("has 11 bytes", |b| {
        b.transmit.add(&[(BUFFERS, 11, 0), (BUFFERS, 0, 0)]);
    });
    check("shorter than an Ethernet header", |b| {
        b.transmit.add(&[(BUFFERS, 25, 0)]);
    });
    check("has 70000 bytes", |b| {
        b.transmit.add(&[(BUFFERS, 70_000, 0)]);
    });
    check("not negotiated", |b| {
        b.transmit.put(BUFFERS, &[1, 9]);
        b.transmit.add(&[(BUFFERS, 60, 0)]);
    });
    check("not writable", |b| {
        b.receive.add(&[(BUFFERS, 60, 0)]);
    });
    check("a receive buffer has 11 bytes", |b| {
        b.receive.add(&[(BUFFERS, 11, WRITE)]);
    });
}

fn raw() -> impl Strategy<Value = Raw> {
    let address = prop_oneof![
        4 => BUFFERS..BUFFERS + 0x1000,
        1 => 0..RAM_SIZE,
        1 => RAM_SIZE - 64..RAM_SIZE + 64,
        1 => any::<u64>(),
    ];
    let len = prop_oneof![6 => 0_u32..3000, 1 => 0_u32..0x2_0000, 1 => any::<u32>()];
    let flags = prop_oneof![8 => 0_u16..4, 1 => any::<u16>()];
    let next = prop_oneof![8 => 0_u16..8, 1 => any::<u16>()];
    (address, len, flags, next).prop_map(|(address, len, flags, next)| Raw {
        address,
        len,
        flags,
        next,
    })
}

proptest! {
    /// Whatever is in the rings: a fault or not, but never a panic or a hang.
    #[test]
    fn hostile_rings_end_in_a_fault_at_worst(
        tables in prop::collection::vec(prop::collection::vec(raw(), 8), 2),
        heads in prop::collection::vec((0_usize..2, prop_oneof![8 => 0_u16..8, 1 => any::<u16>()]), 0..40),
        jump in prop_oneof![8 => Just(None), 1 => any::<u16>().prop_map(Some)],
        frames in prop::collection::vec(26_usize..4000, 0..4),
        merges in any::<bool>(),
    ) {
        let mut bench = if merges { Bench::all_features() } else { Bench::new(feature::VERSION_1) };
        for (queue, table) in [&bench.receive, &bench.transmit].into_iter().zip(&tables) {
            table.iter().zip(0..).for_each(|(raw, index)| queue.describe(index, *raw));
        }
        for len in frames {
            bench.send(&message(len));
        }
        let mut ended = false;
        for (queue, head) in heads {
            [&mut bench.receive, &mut bench.transmit][queue].offer(head);
            ended |= bench.device.notify(&bench.ram, u16::try_from(queue).unwrap()).is_err();
            ended |= bench.poll().is_err();
            if ended {
                break;
            }
        }
        if let Some(index) = jump {
            bench.transmit.set_available(index);
            let _ = bench.poll();
        }
    }
}
