//! The network front-end against a device that behaves.
use super::shared;
use crate::AttachError;
use crate::model::{Arena, Host, Wire};
use crate::net::{Checksum, FrameMeta, Net, NetFault, Segmentation, TransmitError};
use bytes::Bytes;
use paravane_abi::device::feature::{
    NET_CSUM, NET_GUEST_CSUM, NET_GUEST_TSO4, NET_GUEST_TSO6, NET_HOST_TSO4, NET_HOST_TSO6,
    NET_MRG_RXBUF, RING_EVENT_IDX, VERSION_1,
};
use paravane_abi::device::{Device, DeviceKind, NetConfig};
use std::vec::Vec;

const OFFLOADS: u64 = NET_CSUM | NET_GUEST_CSUM | NET_GUEST_TSO4 | NET_HOST_TSO4 | NET_MRG_RXBUF;
const ALL: u64 = OFFLOADS | RING_EVENT_IDX | VERSION_1;
const NO_HEADER: [u8; 10] = [0; 10];

fn device(features: u64) -> Device {
    Device {
        kind: DeviceKind::Net as u32,
        queue_count: 2,
        queue_size_max: 64,
        features,
        net: NetConfig { mtu: 1500, mac: [2, 0, 0, 0, 0, 1], ..NetConfig::default() },
        ..Device::default()
    }
}

fn connect(arena: &Arena, features: u64) -> (Net<Arena, Host>, Wire, Host) {
    let device = device(features);
    let host = Host::new(arena, device);
    let net = Net::new(arena.clone(), host.clone(), 0, &device).unwrap();
    let wire = Wire::new(arena, host.queue(0), host.queue(1));
    (net, wire, host)
}

fn pattern(len: usize) -> Vec<u8> {
    (0_u8..251).cycle().take(len).collect()
}

/// Sends a frame of `len` bytes.
fn send(net: &mut Net<Arena, Host>, len: usize, meta: FrameMeta) -> Result<(), TransmitError> {
    let mut frame = net.transmit_buffer(len).unwrap();
    assert_eq!(frame.len(), len);
    frame.copy_from_slice(&pattern(len));
    net.commit(frame, meta)
}

#[test]
fn frames_come_in_whole_and_buffers_go_round() {
    let arena = Arena::default();
    let (mut net, mut wire, _) = connect(&arena, ALL);
    let posted = arena.allocated();
    for len in [0, 1, 60, 1514, 2036].into_iter().cycle().take(1000) {
        assert!(wire.deliver(NO_HEADER, &pattern(len)));
        let frame = net.receive().unwrap().unwrap();
        assert_eq!(frame.first(), pattern(len));
        assert_eq!(frame.meta(), FrameMeta::default());
        net.recycle(frame);
        net.flush();
        assert_eq!(arena.allocated(), posted);
    }
    assert!(net.receive().unwrap().is_none());
}

#[test]
fn more_buffers_are_posted_when_more_frames_come_at_once() {
    let arena = Arena::default();
    let device = Device { queue_size_max: 256, ..device(ALL) };
    let host = Host::new(&arena, device);
    let mut net = Net::new(arena.clone(), host.clone(), 0, &device).unwrap();
    let mut wire = Wire::new(&arena, host.queue(0), host.queue(1));
    let mut burst = |count| {
        let delivered = (0..count).take_while(|_| wire.deliver(NO_HEADER, &pattern(60))).count();
        let frames: Vec<_> = std::iter::from_fn(|| net.receive().unwrap()).collect();
        assert_eq!(frames.len(), delivered);
        frames.into_iter().for_each(|frame| net.recycle(frame));
        net.flush();
        delivered
    };
    assert_eq!([burst(32), burst(32), burst(300)], [32, 32, 64], "few are enough");
    assert_eq!([burst(300), burst(300), burst(300)], [128, 256, 256]);
    let large = arena.allocated();
    (0..100).for_each(|_| assert_eq!(burst(20), 20));
    assert_eq!(arena.allocated(), large);
}

#[test]
fn large_frames_take_several_buffers() {
    let arena = Arena::default();
    let (mut net, mut wire, _) = connect(&arena, ALL);
    let header = [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0];
    for len in [2037, 4096, 65_549] {
        assert!(wire.deliver(header, &pattern(len)));
        let frame = net.receive().unwrap().unwrap();
        assert_eq!((frame.len(), frame.is_empty()), (len, false));
        assert_eq!(frame.contiguous(&mut Vec::new()), pattern(len));
        assert_eq!(frame.meta().checksum, Checksum::Partial { start: 34, offset: 16 });
        let segmentation = Segmentation { segment_size: 1460, header_len: 54, is_ipv6: false };
        assert_eq!(frame.meta().segmentation, Some(segmentation));
        net.recycle(frame);
        net.flush();
    }
}

/// How many frames of `len` bytes are in one piece without a copy, of 200 that come in pairs.
fn in_place(net: &mut Net<Arena, Host>, wire: &mut Wire, len: usize) -> usize {
    let mut scratch = Vec::new();
    let mut count = 0;
    for _ in 0..100 {
        (0..2).for_each(|_| assert!(wire.deliver(NO_HEADER, &pattern(len))));
        while let Some(frame) = net.receive().unwrap() {
            scratch.clear();
            assert!(frame.contiguous(&mut scratch) == pattern(len));
            count += usize::from(scratch.is_empty());
            net.recycle(frame);
        }
        net.flush();
    }
    count
}

#[test]
fn most_large_frames_are_in_one_piece_as_they_come() {
    let arena = Arena::default();
    let device = Device { queue_size_max: 256, ..device(ALL) };
    let host = Host::new(&arena, device);
    let mut net = Net::new(arena.clone(), host.clone(), 0, &device).unwrap();
    let mut wire = Wire::new(&arena, host.queue(0), host.queue(1));
    let mut check = |len, expect| {
        let count = in_place(&mut net, &mut wire, len);
        assert!(count > expect, "{count} frames of {len} bytes");
    };
    // A frame of 8 large buffers has the end of the row in it where one in 8 begins.
    check(60_000, 150);
    check(60, 199);
    check(5000, 190);
}

#[test]
fn large_frames_get_large_buffers_and_memory_is_bounded() {
    let arena = Arena::default();
    let device = Device { queue_size_max: 256, ..device(ALL) };
    let host = Host::new(&arena, device);
    let mut net = Net::new(arena.clone(), host.clone(), 0, &device).unwrap();
    let mut wire = Wire::new(&arena, host.queue(0), host.queue(1));
    let mut pieces = |len| {
        in_place(&mut net, &mut wire, len);
        assert!(wire.deliver(NO_HEADER, &pattern(8000)));
        let frame = net.receive().unwrap().unwrap();
        let count = frame.pieces().count();
        net.recycle(frame);
        net.flush();
        count
    };
    assert_eq!([pieces(60), pieces(8000)], [4, 4], "small ones stay");
    assert_eq!([pieces(60_000), pieces(60)], [1, 1]);
    // The rings, and at worst two rows: one in use, and one whose last buffers are in flight.
    assert!(arena.allocated() < (2 << 20) + (64 << 10), "{}", arena.allocated());
}

#[test]
fn buffers_that_come_back_in_disorder_make_no_difference() {
    let arena = Arena::default();
    let (mut net, mut wire, _) = connect(&arena, ALL);
    for round in 0..200 {
        let lens = [60, 3000, 1000 + 37 * round];
        lens.iter().for_each(|len| assert!(wire.deliver(NO_HEADER, &pattern(*len))));
        let mut frames: Vec<_> = std::iter::from_fn(|| net.receive().unwrap()).collect();
        for (frame, len) in frames.iter().zip(lens) {
            assert!(frame.contiguous(&mut Vec::new()) == pattern(len));
        }
        frames.rotate_left(round % 3);
        frames.into_iter().for_each(|frame| net.recycle(frame));
        net.flush();
    }
}

#[test]
fn a_frame_is_not_handed_out_before_all_its_buffers_are_used() {
    let arena = Arena::default();
    let (mut net, mut wire, _) = connect(&arena, ALL);
    let chains = [wire.receive.take().unwrap(), wire.receive.take().unwrap()];
    arena.write(chains[0].writable[0].0, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 7]);
    arena.write(chains[1].writable[0].0, &[8, 9]);
    wire.receive.finish(chains[0].head, 13);
    assert!(net.receive().unwrap().is_none());
    wire.receive.finish(chains[1].head, 2);
    let frame = net.receive().unwrap().unwrap();
    assert!(frame.pieces().eq([&[7][..], &[8, 9]]));
}

#[test]
fn frames_go_out_with_their_offloads() {
    let arena = Arena::default();
    let (mut net, mut wire, host) = connect(&arena, ALL);
    let _ = host.take_notifications();
    let meta = FrameMeta {
        checksum: Checksum::Partial { start: 34, offset: 16 },
        segmentation: Some(Segmentation { segment_size: 1448, header_len: 66, is_ipv6: false }),
    };
    send(&mut net, 65_549, meta).unwrap();
    send(&mut net, 60, FrameMeta::default()).unwrap();
    assert!(wire.next_sent().is_none(), "nothing is sent before the flush");
    net.flush();
    assert_eq!(host.take_notifications(), [1], "one notification for both");
    let sent = wire.next_sent().unwrap();
    assert_eq!(sent[..12], [1, 1, 66, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0]);
    assert_eq!(sent[12..], pattern(65_549));
    let sent = wire.next_sent().unwrap();
    assert_eq!(sent[..12], [0; 12]);
    assert_eq!(sent[12..], pattern(60));
}

#[test]
fn sent_buffers_are_used_again() {
    let arena = Arena::default();
    let (mut net, mut wire, _) = connect(&arena, ALL);
    let mut peak = 0;
    for round in 0..1000 {
        send(&mut net, if round % 7 == 0 { 20_000 } else { 500 }, FrameMeta::default()).unwrap();
        net.flush();
        assert!(wire.next_sent().is_some());
        if round == 100 {
            peak = arena.allocated();
        }
    }
    assert!(arena.allocated() <= peak, "memory grows with the number of frames sent");
}

#[test]
fn a_stalled_device_makes_senders_wait_and_tells_them_when_to_go_on() {
    for len in [60, 60_000] {
        let arena = Arena::default();
        let (mut net, mut wire, _) = connect(&arena, ALL);
        let mut sent = 0;
        while let Some(frame) = net.transmit_buffer(len) {
            net.commit(frame, FrameMeta::default()).unwrap();
            sent += 1;
        }
        assert_eq!(sent, 63);
        net.flush();
        assert!(!net.enable_events());
        let _ = wire.transmit.wants_event();
        assert!(wire.next_sent().is_some());
        assert!(wire.transmit.wants_event(), "somebody waits for room");
        assert!(net.transmit_buffer(len).is_some());
        let _ = net.enable_events();
        assert!(wire.next_sent().is_some());
        assert!(!wire.transmit.wants_event(), "nobody waits any more");
    }
}

#[test]
fn there_is_room_for_two_buffers_held_at_a_time() {
    let arena = Arena::default();
    let (mut net, ..) = connect(&arena, ALL);
    while let Some(first) = net.transmit_buffer(60) {
        let second = net.transmit_buffer(60_000);
        net.commit(first, FrameMeta::default()).unwrap();
        second.into_iter().for_each(|second| net.commit(second, FrameMeta::default()).unwrap());
    }
}

#[test]
fn a_dropped_transmit_buffer_or_received_frame_is_no_leak() {
    let arena = Arena::default();
    let (mut net, mut wire, _) = connect(&arena, ALL);
    let before = arena.allocated();
    for _ in 0..1000 {
        drop(net.transmit_buffer(60));
        assert!(wire.deliver(NO_HEADER, &pattern(60)));
        drop(net.receive().unwrap().unwrap());
        net.flush();
        // The rest of what was allocated at once, and what replaces the part dropped.
        assert!(arena.allocated() < 2 * before);
    }
    for _ in 0..64 {
        assert!(wire.deliver(NO_HEADER, &pattern(60)), "the stock was filled up again");
    }
}

#[test]
fn events_are_asked_for_before_waiting() {
    let arena = Arena::default();
    let (mut net, mut wire, _) = connect(&arena, ALL);
    assert!(!net.enable_events());
    assert!(wire.deliver(NO_HEADER, &pattern(60)));
    assert!(wire.receive.wants_event());
    assert!(net.has_received());
    assert!(net.enable_events(), "there is a frame already");
}

#[test]
fn only_what_fits_together_is_negotiated() {
    let check = |offered: u64, accepted: u64| {
        let (_, _, host) = connect(&Arena::default(), offered | VERSION_1);
        assert_eq!(host.attached().unwrap().features, accepted | VERSION_1);
    };
    check(OFFLOADS, OFFLOADS);
    check(1 << 50 | RING_EVENT_IDX, RING_EVENT_IDX);
    check(NET_HOST_TSO4, 0);
    check(NET_CSUM | NET_HOST_TSO4, NET_CSUM | NET_HOST_TSO4);
    check(NET_GUEST_CSUM | NET_GUEST_TSO4, NET_GUEST_CSUM);
    check(NET_MRG_RXBUF | NET_GUEST_TSO4, NET_MRG_RXBUF);
    let all = OFFLOADS | NET_HOST_TSO6 | NET_GUEST_TSO6;
    check(all, all);
    check(NET_HOST_TSO6, 0);
    check(NET_GUEST_CSUM | NET_GUEST_TSO6, NET_GUEST_CSUM);
}

#[test]
fn offloads_that_were_not_negotiated_are_refused() {
    let arena = Arena::default();
    let (mut net, ..) = connect(&arena, VERSION_1);
    assert!(!net.completes_checksums() && !net.segments_tcp());
    let checksum = Checksum::Partial { start: 34, offset: 16 };
    let refused = send(&mut net, 60, FrameMeta { checksum, segmentation: None });
    assert_eq!(refused, Err(TransmitError::NotNegotiated));
    let segmentation = Some(Segmentation { segment_size: 1448, header_len: 54, is_ipv6: false });
    let refused = send(&mut net, 60, FrameMeta { segmentation, ..FrameMeta::default() });
    assert_eq!(refused, Err(TransmitError::NotNegotiated));
    send(&mut net, 60, FrameMeta::default()).unwrap();
}

#[test]
fn frames_longer_than_any_packet_are_refused_both_ways() {
    let arena = Arena::default();
    let (mut net, mut wire, _) = connect(&arena, ALL);
    assert!(net.transmit_buffer(65_550).is_none());
    assert!(wire.deliver(NO_HEADER, &pattern(65_550)));
    assert_eq!(net.receive().unwrap_err(), NetFault::Long);
    assert_eq!(net.receive().unwrap_err(), NetFault::Long, "dead is dead");
    assert!(net.transmit_buffer(60).is_none());
}

#[test]
fn a_frame_without_a_whole_header_kills_the_device() {
    let arena = Arena::default();
    let (mut net, mut wire, _) = connect(&arena, ALL);
    let chain = wire.receive.take().unwrap();
    wire.receive.finish(chain.head, 11);
    assert_eq!(net.receive().unwrap_err(), NetFault::Short);
}

#[test]
fn without_merging_the_number_of_buffers_means_nothing() {
    let arena = Arena::default();
    let (mut net, mut wire, _) = connect(&arena, VERSION_1);
    let chain = wire.receive.take().unwrap();
    arena.write(chain.writable[0].0, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9, 7]);
    wire.receive.finish(chain.head, 13);
    assert_eq!(net.receive().unwrap().unwrap().first(), [7]);
}

#[test]
fn receive_buffers_fit_a_large_mtu() {
    let arena = Arena::default();
    let mut device = device(VERSION_1);
    device.net.mtu = 9000;
    let host = Host::new(&arena, device);
    let _net = Net::new(arena.clone(), host.clone(), 0, &device).unwrap();
    assert!(host.queue(0).take().unwrap().writable_len() >= 12 + 14 + 9000);
}

#[test]
fn a_device_that_cannot_be_used_is_refused() {
    let arena = Arena::default();
    let check = |change: fn(&mut Device), expect| {
        let mut device = device(ALL);
        change(&mut device);
        let host = Host::new(&arena, device);
        assert_eq!(Net::new(arena.clone(), host, 0, &device).unwrap_err(), expect);
    };
    check(|d| d.kind = DeviceKind::Block as u32, AttachError::Device);
    check(|d| d.queue_count = 1, AttachError::Device);
    check(|d| d.features = RING_EVENT_IDX, AttachError::Version);
    check(|d| d.queue_size_max = 0, AttachError::Memory);
    let host = Host::new(&arena, device(ALL));
    host.refuse();
    let refused = Net::new(arena.clone(), host, 0, &device(ALL)).unwrap_err();
    assert!(matches!(refused, AttachError::Host(_)));
}

#[test]
fn short_memory_means_fewer_buffers() {
    let arena = Arena::default();
    let device = device(ALL);
    let host = Host::new(&arena, device);
    let rings = 2 * crate::VirtQueue::<Arena, ()>::ring_len(64).unwrap();
    arena.set_limit(rings + 3 * 2048 + 100);
    let mut net = Net::new(arena.clone(), host.clone(), 0, &device).unwrap();
    let mut queue = host.queue(0);
    assert_eq!(core::iter::from_fn(|| queue.take()).count(), 3);
    assert!(net.transmit_buffer(60_000).is_none());
}

/// Sends a frame of 54 bytes of headers and these pieces, and looks at it on the wire: its bytes are
/// right, and it has so many descriptors.
fn send_pieces(arena: &Arena, pieces: &[Bytes], descriptors: usize) {
    let (mut net, mut wire, host) = connect(arena, ALL);
    let checksum = Checksum::Partial { start: 34, offset: 16 };
    net.send(&pattern(54), pieces, FrameMeta { checksum, segmentation: None }).unwrap();
    assert!(wire.next_sent().is_none(), "nothing is sent before the flush");
    net.flush();
    assert_eq!(host.queue(1).take().unwrap().readable.len(), descriptors);
    let sent = wire.next_sent().unwrap();
    assert_eq!(sent[..12], [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0]);
    let expect: Vec<u8> =
        pieces.iter().fold(pattern(54), |frame, piece| [&frame, &piece[..]].concat());
    assert!(sent[12..] == expect);
}

#[test]
fn long_pieces_are_sent_from_where_they_are() {
    let arena = Arena::default();
    let check = |lens: &[usize], descriptors| {
        send_pieces(&arena, &shared(&arena, lens), descriptors);
    };
    check(&[60_000], 2);
    check(&[200, 60_000], 2);
    check(&[30_000, 200, 30_000], 4);
    check(&[30_000, 0, 30_000], 3);
    check(&[3000; 16], 17);
}

#[test]
fn what_is_short_or_in_too_many_pieces_or_out_of_reach_is_copied() {
    let arena = Arena::default();
    send_pieces(&arena, &[], 1);
    send_pieces(&arena, &shared(&arena, &[1000, 900]), 1);
    send_pieces(&arena, &shared(&arena, &[3000; 17]), 1);
    let elsewhere = Bytes::from(pattern(3000));
    send_pieces(&arena, &[shared(&arena, &[3000]), Vec::from([elsewhere])].concat(), 1);
}

#[test]
fn shared_bytes_are_given_up_by_the_next_flush() {
    let arena = Arena::default();
    let (mut net, mut wire, _) = connect(&arena, ALL);
    for _ in 0..1000 {
        net.send(&pattern(54), &shared(&arena, &[9000, 9000]), FrameMeta::default()).unwrap();
        net.flush();
        assert_eq!(arena.shared(), 2);
        assert!(wire.next_sent().is_some());
    }
    net.flush();
    assert_eq!(arena.shared(), 0);
}

#[test]
fn a_stalled_device_is_lent_a_bounded_amount() {
    for lens in [&[65_000][..], &[4000; 16], &[9000]] {
        let arena = Arena::default();
        let mut device = device(ALL);
        device.queue_size_max = 1024;
        let host = Host::new(&arena, device);
        let mut net = Net::new(arena.clone(), host.clone(), 0, &device).unwrap();
        let mut wire = Wire::new(&arena, host.queue(0), host.queue(1));
        let mut lent = 0;
        while net.send(&pattern(54), &shared(&arena, lens), FrameMeta::default()).is_ok() {
            lent += lens.iter().sum::<usize>();
            assert!(lent < (4 << 20) + 65_000);
        }
        assert!(lent > 800_000, "{lent}");
        net.flush();
        assert!(!net.enable_events());
        let _ = wire.transmit.wants_event();
        assert!(wire.next_sent().is_some());
        assert!(wire.transmit.wants_event(), "somebody waits for room");
        assert!(net.send(&pattern(54), &shared(&arena, lens), FrameMeta::default()).is_ok());
    }
}

#[test]
fn buffers_held_have_room_whatever_is_sent_beside_them() {
    let arena = Arena::default();
    let (mut net, ..) = connect(&arena, ALL);
    let held = [net.transmit_buffer(60).unwrap(), net.transmit_buffer(60_000).unwrap()];
    let pieces = shared(&arena, &[3000; 3]);
    while net.send(&pattern(54), &pieces, FrameMeta::default()).is_ok() {}
    held.into_iter().for_each(|buffer| net.commit(buffer, FrameMeta::default()).unwrap());
}

#[test]
fn a_frame_by_reference_obeys_the_rules_of_all_frames() {
    let arena = Arena::default();
    let (mut net, mut wire, _) = connect(&arena, VERSION_1);
    let pieces = shared(&arena, &[65_550 - 54]);
    assert_eq!(net.send(&pattern(54), &pieces, FrameMeta::default()), Err(TransmitError::Long));
    let checksum = Checksum::Partial { start: 34, offset: 16 };
    let meta = FrameMeta { checksum, segmentation: None };
    assert_eq!(net.send(&pattern(54), &pieces, meta), Err(TransmitError::NotNegotiated));
    let pieces = shared(&arena, &[3000]);
    net.send(&pattern(54), &pieces, FrameMeta::default()).unwrap();
    net.flush();
    wire.transmit.set_used_index(7);
    net.flush();
    let refused = net.send(&pattern(54), &pieces, FrameMeta::default());
    assert_eq!(refused, Err(TransmitError::Full), "the device is dead");
    assert!(net.receive().is_err());
}
