//! The virtqueue, one property at a time.
use super::{EVENT_KINDS, long_chain, pair, segment, shared};
use crate::model::Arena;
use crate::{Chain, RingFault};
use bytes::Bytes;
use paravane_abi::device::feature::RING_EVENT_IDX;
use std::vec::Vec;

#[test]
fn the_device_sees_what_was_added_and_the_driver_what_was_written() {
    let arena = Arena::default();
    let (mut queue, mut device) = pair(&arena, 8, RING_EVENT_IDX);
    let mut chain = long_chain(&arena);
    let mut first = chain.readable[0].take().unwrap().into_buffer();
    first.copy_from_slice(b"0123456789");
    chain.readable[0] = Some(crate::Segment::prefix(first, 4));
    queue.add(chain, 'a').unwrap();
    assert!(!device.has_available(), "nothing is shown before it is published");
    assert!(queue.publish());

    let seen = device.take().unwrap();
    assert_eq!(arena.read(seen.readable[0].0, seen.readable[0].1 as usize), b"0123");
    assert_eq!(seen.readable[1].1, 20);
    assert_eq!(seen.writable.iter().map(|s| s.1).collect::<Vec<_>>(), [30, 40]);
    arena.write(seen.writable[0].0, b"answer");
    device.finish(seen.head, 6);

    let used = queue.pop().unwrap().unwrap();
    assert_eq!((used.token, used.written), ('a', 6));
    let [Some(answer), _] = used.chain.writable else { panic!("the chain has lost a segment") };
    assert_eq!(&answer.into_buffer()[..7], b"answer\0");
    assert!(queue.pop().unwrap().is_none());
    assert_eq!((queue.free_descriptors(), queue.in_flight()), (8, 0));
}

#[test]
fn chains_come_back_in_the_order_of_the_device() {
    let arena = Arena::default();
    let (mut queue, mut device) = pair(&arena, 16, 0);
    for token in 0..4 {
        queue.add(long_chain(&arena), token).unwrap();
    }
    let _ = queue.publish();
    let seen: Vec<_> = core::iter::from_fn(|| device.take()).collect();
    for position in [2, 0, 3, 1] {
        device.finish(seen[position].head, 0);
    }
    let order: Vec<i32> = core::iter::from_fn(|| queue.pop().unwrap()).map(|u| u.token).collect();
    assert_eq!(order, [2, 0, 3, 1]);
}

#[test]
fn a_full_queue_gives_the_chain_back() {
    let arena = Arena::default();
    let (mut queue, _device) = pair(&arena, 8, 0);
    queue.add(long_chain(&arena), 1).unwrap();
    queue.add(long_chain(&arena), 2).unwrap();
    let refused = queue.add(Chain::to_read(segment(&arena, 1)), 3).unwrap_err();
    assert_eq!((refused.0.readable[0].as_ref().unwrap().len(), refused.1), (1, 3));
    let nothing = Chain { readable: [None, None], writable: [None, None] };
    assert!(queue.add(nothing, 4).is_err(), "a chain has at least one segment");
}

#[test]
fn indices_wrap_around() {
    for features in EVENT_KINDS {
        let arena = Arena::default();
        let (mut queue, mut device) = pair(&arena, 4, features);
        for round in 0..70_000_u32 {
            queue.add(Chain::to_write(segment(&arena, 4)), round).unwrap();
            let _ = device.enable_notifications();
            assert!(queue.publish(), "the device asked for a notification, round {round}");
            assert!(!queue.enable_events());
            let seen = device.take().unwrap();
            device.finish(seen.head, 4);
            assert!(device.wants_event(), "the driver asked for an event, round {round}");
            assert_eq!(queue.pop().unwrap().unwrap().token, round);
        }
    }
}

#[test]
fn a_batch_needs_one_notification_and_a_busy_device_none() {
    for features in EVENT_KINDS {
        let arena = Arena::default();
        let (mut queue, mut device) = pair(&arena, 8, features);
        let add = |queue: &mut crate::VirtQueue<_, _>| {
            queue.add(Chain::to_read(segment(&arena, 1)), ()).unwrap();
        };
        (0..3).for_each(|_| add(&mut queue));
        assert!(queue.publish());
        assert!(!queue.publish(), "nothing was added since");
        device.disable_notifications();
        assert!(device.take().is_some());
        add(&mut queue);
        assert!(!queue.publish(), "the device is at work");
        while device.take().is_some() {}
        assert!(!device.enable_notifications());
        add(&mut queue);
        assert!(queue.publish(), "the device sleeps");
    }
}

#[test]
fn events_come_only_when_asked_for() {
    let arena = Arena::default();
    let (mut queue, mut device) = pair(&arena, 8, RING_EVENT_IDX);
    (0..4).for_each(|token| queue.add(Chain::to_read(segment(&arena, 1)), token).unwrap());
    let _ = queue.publish();
    assert!(!queue.enable_events());
    let mut finish = || {
        let seen = device.take().unwrap();
        device.finish(seen.head, 0);
        device.wants_event()
    };
    assert!(finish());
    assert!(!finish(), "one event for one request");
    assert!(queue.enable_events(), "there are used chains already");
    while queue.pop().unwrap().is_some() {}
    assert!(!queue.enable_events());
    assert!(finish());
}

#[test]
fn each_broken_rule_kills_the_queue() {
    let check = |break_rule: fn(&mut crate::model::DeviceQueue<_>, u16), expect| {
        let arena = Arena::default();
        let (mut queue, mut device) = pair(&arena, 8, RING_EVENT_IDX);
        queue.add(long_chain(&arena), ()).unwrap();
        let _ = queue.publish();
        queue.add(Chain::to_write(segment(&arena, 1)), ()).unwrap();
        let head = device.take().unwrap().head;
        break_rule(&mut device, head);
        assert_eq!(queue.pop().unwrap_err(), expect);
        device.finish(head, 0);
        assert_eq!(queue.pop().unwrap_err(), expect, "dead is dead");
        assert!(queue.add(long_chain(&arena), ()).is_err());
        assert!(!queue.has_used());
    };
    check(
        |device, _| {
            device.write_used(0, 8, 0);
            device.set_used_index(1);
        },
        RingFault::Id(8),
    );
    check(
        |device, _| {
            device.write_used(0, u32::MAX, 0);
            device.set_used_index(1);
        },
        RingFault::Id(u32::MAX),
    );
    // Descriptor 1 is the second of the chain; 4 is the head of one that was not published.
    check(|device, _| device.finish(1, 0), RingFault::Id(1));
    check(|device, _| device.finish(4, 0), RingFault::Id(4));
    check(|device, _| device.finish(5, 0), RingFault::Id(5));
    check(|device, head| device.finish(head, 71), RingFault::Length { claimed: 71, writable: 70 });
    check(|device, _| device.set_used_index(2), RingFault::UsedIndex { claimed: 2, in_flight: 1 });
    check(
        |device, _| device.set_used_index(u16::MAX),
        RingFault::UsedIndex { claimed: u16::MAX, in_flight: 1 },
    );
}

#[test]
fn a_chain_cannot_be_used_twice() {
    let arena = Arena::default();
    let (mut queue, mut device) = pair(&arena, 8, 0);
    (0..2).for_each(|token| queue.add(Chain::to_read(segment(&arena, 1)), token).unwrap());
    let _ = queue.publish();
    let head = device.take().unwrap().head;
    device.finish(head, 0);
    device.finish(head, 0);
    assert_eq!(queue.pop().unwrap().unwrap().token, 0);
    assert_eq!(queue.pop().unwrap_err(), RingFault::Id(u32::from(head)));
}

#[test]
fn what_is_in_flight_outlives_the_queue() {
    let arena = Arena::default();
    let (mut queue, mut device) = pair(&arena, 8, 0);
    queue.add(Chain::to_write(segment(&arena, 4)), ()).unwrap();
    let _ = queue.publish();
    drop(queue);
    let seen = device.take().unwrap();
    arena.write(seen.writable[0].0, b"late");
    device.finish(seen.head, 4);
}

#[test]
fn popped_buffers_are_the_callers_to_free() {
    let arena = Arena::default();
    let (mut queue, mut device) = pair(&arena, 8, 0);
    let ring = arena.allocated();
    queue.add(long_chain(&arena), ()).unwrap();
    assert_eq!(arena.allocated(), ring + 100);
    let _ = queue.publish();
    let head = device.take().unwrap().head;
    device.finish(head, 70);
    drop(queue.pop());
    assert_eq!(arena.allocated(), ring);
}

#[test]
fn shared_bytes_stand_between_what_is_read_and_what_is_written() {
    let arena = Arena::default();
    let (mut queue, mut device) = pair(&arena, 16, 0);
    let pieces = shared(&arena, &[5, 0, 1, 300]);
    queue.add_sharing(&arena, long_chain(&arena), &pieces, ()).unwrap();
    assert_eq!(queue.free_descriptors(), 16 - 4 - 3, "an empty piece takes no descriptor");
    let _ = queue.publish();
    let seen = device.take().unwrap();
    let lens: Vec<u32> = seen.readable.iter().map(|s| s.1).collect();
    assert_eq!(lens, [10, 20, 5, 1, 300]);
    assert_eq!(seen.writable_len(), 70);
    for (piece, (address, len)) in [0, 2, 3].into_iter().zip(&seen.readable[2..]) {
        assert!(arena.read(*address, *len as usize).iter().all(|byte| *byte == piece));
    }
    device.finish(seen.head, 70);
    assert_eq!(queue.pop().unwrap().unwrap().written, 70);
    assert_eq!(queue.free_descriptors(), 16);
}

#[test]
fn the_queue_uses_shared_bytes_until_the_device_is_done() {
    let arena = Arena::default();
    let (mut queue, mut device) = pair(&arena, 8, 0);
    let pieces = shared(&arena, &[100, 100, 100]);
    // The queue's use is of a part only, and of one piece twice.
    let parts = [pieces[0].slice(..50), pieces[1].clone(), pieces[1].clone()];
    queue.add_sharing(&arena, Chain::to_read(segment(&arena, 1)), &parts, ()).unwrap();
    let _ = queue.publish();
    drop((pieces, parts));
    assert_eq!(arena.shared(), 2, "the third is nobody's");
    let seen = device.take().unwrap();
    for (address, len) in &seen.readable[1..] {
        let _ = arena.read(*address, *len as usize);
    }
    device.finish(seen.head, 0);
    assert_eq!(arena.shared(), 2);
    drop(queue.pop().unwrap());
    assert_eq!(arena.shared(), 0);
}

#[test]
fn a_broken_or_forgotten_device_keeps_what_was_shared() {
    let arena = Arena::default();
    for break_rule in [true, false] {
        let (mut queue, mut device) = pair(&arena, 8, 0);
        let chain = Chain::to_read(segment(&arena, 1));
        queue.add_sharing(&arena, chain, &shared(&arena, &[9]), ()).unwrap();
        let _ = queue.publish();
        if break_rule {
            device.finish(device.used_index() + 1, 0);
            assert!(queue.pop().is_err());
        }
        drop(queue);
        let (address, len) = device.take().unwrap().readable[1];
        assert_eq!(arena.read(address, len as usize), [0; 9]);
    }
}

#[test]
fn a_chain_that_is_refused_shares_nothing() {
    let arena = Arena::default();
    let (mut queue, _device) = pair(&arena, 4, 0);
    let mut refuse = |pieces: Vec<Bytes>| {
        let refused = queue.add_sharing(&arena, Chain::to_read(segment(&arena, 7)), &pieces, 3);
        let refused = refused.unwrap_err();
        assert_eq!((refused.0.readable[0].as_ref().unwrap().len(), refused.1), (7, 3));
        assert_eq!(queue.free_descriptors(), 4);
    };
    refuse(shared(&arena, &[1, 1, 1, 1]));
    refuse([shared(&arena, &[1, 1]), Vec::from([Bytes::from_static(b"elsewhere")])].concat());
    assert_eq!(arena.shared(), 0);
    let fits = [shared(&arena, &[1, 1, 1]), Vec::from([Bytes::new()])].concat();
    queue.add_sharing(&arena, Chain::to_read(segment(&arena, 7)), &fits, 3).unwrap();
    assert_eq!(queue.free_descriptors(), 0);
}
