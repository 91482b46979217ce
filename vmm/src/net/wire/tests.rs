//! The wire, and ends of it that lie.
use super::memory::SharedMemory;
use super::ring::{Consumer, MEMORY_LEN, Producer, Ring};
use super::{End, MESSAGE_LEN_MAX, Takes, Wants, pair};
use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::thread;
use vm_memory::VolatileSlice;

const MESSAGES: Wants = Wants { messages: true, room: false };
const ROOM: Wants = Wants { messages: false, room: true };

/// Bytes that tell one message from another, and one place in it from another.
fn message(len: usize, seed: usize) -> Vec<u8> {
    let mut bytes = vec![seed.to_le_bytes()[0]; len];
    for at in (0..len).step_by(61) {
        bytes[at] = (at / 61 + seed).to_le_bytes()[0];
    }
    bytes
}

fn copy(message: &VolatileSlice<'_>) -> Vec<u8> {
    let mut bytes = vec![0; message.len()];
    message.copy_to(&mut bytes[..]);
    bytes
}

fn ring() -> (SharedMemory, Producer, Consumer) {
    let memory = SharedMemory::new(MEMORY_LEN).unwrap();
    let ring = Ring { memory: memory.clone(), start: 0 };
    (memory, Producer::new(ring.clone()), Consumer::new(ring))
}

/// Whether the bell rings within `ms` milliseconds.
fn rings(end: &End, ms: i64) -> bool {
    let patience = Timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 };
    poll(&mut [PollFd::from_borrowed_fd(end.bell(), PollFlags::IN)], Some(&patience)).unwrap() > 0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is sent comes out, in order, and there is always room for any message in an empty ring.
    #[test]
    fn a_ring_is_a_queue(
        steps in prop::collection::vec(
            prop_oneof![4 => 0..200_usize, 2 => 0..=MESSAGE_LEN_MAX, 5 => Just(usize::MAX)], 1..200),
    ) {
        let (_memory, mut producer, mut consumer) = ring();
        let mut model = VecDeque::new();
        for (seed, len) in steps.into_iter().enumerate() {
            if len == usize::MAX {
                prop_assert_eq!(consumer.pop(copy).unwrap(), model.pop_front());
            } else {
                let has_room = producer.has_room(len);
                prop_assert!(has_room || !model.is_empty());
                prop_assert!(has_room || !producer.has_much_room());
                prop_assert_eq!(producer.send(&message(len, seed)), has_room);
                if has_room {
                    model.push_back(message(len, seed));
                }
            }
            prop_assert_eq!(consumer.is_empty(), model.is_empty());
        }
    }

    /// Whatever the other end writes, at any time: errors at worst, and never an access elsewhere.
    #[test]
    fn an_end_that_lies_breaks_the_wire_at_worst(
        steps in prop::collection::vec((any::<bool>(), word(), value()), 1..100),
    ) {
        let (memory, mut producer, mut consumer) = ring();
        for (sends, offset, value) in steps {
            memory.word(offset).store(value, Ordering::Relaxed);
            if sends {
                producer.send(&message(1000, 0));
            } else if let Ok(Some(message)) = consumer.pop(copy) {
                prop_assert!(message.len() <= MESSAGE_LEN_MAX);
            }
        }
    }
}

/// Where the counters and the first and last records are.
fn word() -> impl Strategy<Value = usize> {
    let last = MEMORY_LEN / 4 - 1;
    prop_oneof![
        Just(0),
        Just(64),
        (32..40_usize).prop_map(|i| i * 4),
        (last - 8..=last).prop_map(|i| i * 4)
    ]
}

fn value() -> impl Strategy<Value = u32> {
    let len = u32::try_from(MEMORY_LEN).unwrap();
    prop_oneof![0..70_000_u32, len - 200..len + 200, Just(u32::MAX), any::<u32>()]
}

#[test]
fn a_message_that_is_too_long_finds_no_room() {
    let (_memory, mut producer, _consumer) = ring();
    assert!(!producer.send(&[0; MESSAGE_LEN_MAX + 1]));
    assert!(!producer.has_room(usize::MAX));
    assert!(producer.send(&[0; MESSAGE_LEN_MAX]));
}

#[test]
fn each_lie_of_a_producer_is_found() {
    let check = |written: u32, length: u32| {
        let (memory, _producer, mut consumer) = ring();
        memory.word(0).store(written, Ordering::Relaxed);
        memory.word(128).store(length, Ordering::Relaxed);
        assert!(consumer.pop(copy).is_err(), "{written} {length}");
    };
    check(u32::MAX, 60); // More than the ring holds.
    check(60, 60); // Longer than what is there.
    check(200_000, 100_000); // Longer than any message.
    check(100, u32::MAX); // Back to the start, from where there is nothing.
    check(256 << 10, u32::MAX); // The same, of a full ring.
}

#[test]
fn a_reader_that_claims_too_much_makes_no_room() {
    let (memory, mut producer, _consumer) = ring();
    memory.word(64).store(4, Ordering::Relaxed);
    assert!(!producer.send(&[0; 60]));
}

#[test]
fn who_sleeps_is_woken_for_what_it_wants_only() {
    let (mut guest, mut network) = pair().unwrap();
    assert!(guest.arm(MESSAGES));
    network.wake_peer();
    assert!(!rings(&guest, 0), "for nothing");
    assert!(network.outgoing.send(b"frame"));
    network.wake_peer();
    assert!(rings(&guest, 0));
    guest.silence();
    network.wake_peer();
    assert!(!rings(&guest, 0), "twice");
    assert!(!guest.arm(MESSAGES), "with a message waiting");
    assert_eq!(guest.incoming.pop(copy).unwrap().unwrap(), b"frame");
    assert!(guest.arm(MESSAGES));
    guest.disarm();
    assert!(network.outgoing.send(b"frame"));
    network.wake_peer();
    assert!(!rings(&guest, 0), "awake");
}

#[test]
fn who_waits_for_room_is_woken_when_there_is_much() {
    let (mut guest, mut network) = pair().unwrap();
    while network.outgoing.send(&[0; 1000]) {}
    assert!(network.arm(ROOM));
    guest.incoming.pop(copy).unwrap();
    guest.wake_peer();
    assert!(!rings(&network, 0), "for little room");
    while guest.incoming.pop(copy).unwrap().is_some() {}
    guest.wake_peer();
    assert!(rings(&network, 0));
    assert!(!network.arm(ROOM));
}

#[test]
fn what_the_driver_takes_is_said_once_it_is_there() {
    for takes in [(false, false), (true, false), (true, true)] {
        let takes = Takes { partial_checksums: takes.0, large_segments: takes.1 };
        let (guest, network) = pair().unwrap();
        assert_eq!(network.guest_takes(), None);
        guest.attach(takes);
        assert!(rings(&network, 0));
        assert_eq!(network.guest_takes(), Some(takes));
    }
}

#[test]
fn the_guest_hears_of_the_networks_end() {
    let (guest, network) = pair().unwrap();
    assert!(!guest.is_closed());
    network.close();
    assert!(rings(&guest, 0) && guest.is_closed());
}

/// Two threads that sleep whenever they can: every message arrives, and no wake-up is missed.
#[test]
fn no_wake_up_is_lost() {
    const COUNT: usize = 100_000;
    const PATIENCE_MS: i64 = 60_000;
    let (mut guest, mut network) = pair().unwrap();
    let sender = thread::spawn(move || {
        for i in 0..COUNT {
            while !network.outgoing.send(&message(i % 3000, i)) {
                network.wake_peer();
                if network.arm(ROOM) {
                    assert!(rings(&network, PATIENCE_MS), "no room was told of");
                    network.silence();
                }
            }
            if i % 3 == 0 {
                network.wake_peer();
            }
        }
        network.wake_peer();
        network
    });
    for i in 0..COUNT {
        let received = loop {
            if let Some(received) = guest.incoming.pop(copy).unwrap() {
                break received;
            }
            guest.wake_peer();
            if guest.arm(MESSAGES) {
                assert!(rings(&guest, PATIENCE_MS), "message {i} was not told of");
                guest.silence();
            }
        };
        assert!(received == message(i % 3000, i));
    }
    sender.join().unwrap();
}
