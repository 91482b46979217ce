//! The block front-end against a disk that behaves, and one that fails.
use crate::block::{Block, BlockError, Request, Ticket};
use crate::model::{Arena, Disk, Host};
use crate::{AttachError, DmaBuffer, RingFault};
use core::task::{Context, Poll, Waker};
use paravane_abi::device::feature::{BLK_DISCARD, BLK_FLUSH, BLK_RO, RING_EVENT_IDX, VERSION_1};
use paravane_abi::device::{BlockConfig, Device, DeviceKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::vec::Vec;

const SECTORS: u64 = 64;
const ALL: u64 = VERSION_1 | RING_EVENT_IDX | BLK_FLUSH | BLK_DISCARD;

fn device(features: u64) -> Device {
    Device {
        kind: DeviceKind::Block as u32,
        queue_count: 1,
        queue_size_max: 16,
        features,
        block: BlockConfig { capacity: SECTORS, segments_max: 1, discard_sectors_max: 8 },
        ..Device::default()
    }
}

/// A driver and its disk.
struct World {
    block: Block<Arena, Host>,
    disk: Disk,
    host: Host,
    wakers: Vec<Waker>,
}

impl World {
    fn new(features: u64) -> Self {
        let arena = Arena::default();
        let device = device(features);
        let host = Host::new(&arena, device);
        let block = Block::new(arena.clone(), host.clone(), 0, &device).unwrap();
        let disk = Disk::new(&arena, host.queue(0), SECTORS);
        Self { block, disk, host, wakers: Vec::new() }
    }

    fn submit(&mut self, request: Request<Arena>) -> Poll<Result<Ticket, BlockError>> {
        let mut context = Context::from_waker(Waker::noop());
        self.block.poll_submit(&mut Some(request), &mut context)
    }

    fn outcome(&mut self, ticket: &mut Option<Ticket>) -> Poll<Outcome> {
        self.block.poll_outcome(ticket, &mut Context::from_waker(Waker::noop()))
    }

    /// Runs a request from beginning to end.
    fn run(&mut self, request: Request<Arena>) -> Outcome {
        let Poll::Ready(ticket) = self.submit(request) else { panic!("there is room") };
        let mut ticket = Some(ticket?);
        assert!(self.outcome(&mut ticket).is_pending());
        self.block.kick();
        self.disk.serve();
        self.block.poll(&mut self.wakers);
        let Poll::Ready(outcome) = self.outcome(&mut ticket) else { panic!("it is done") };
        assert_eq!(ticket, None);
        outcome
    }

    fn buffer(&self, byte: u8, len: usize) -> DmaBuffer<Arena> {
        let mut buffer = self.block.buffer(len).unwrap();
        buffer.fill(byte);
        buffer
    }

    fn read(&self, sector: u64, len: usize) -> Request<Arena> {
        Request::Read { sector, buffer: self.buffer(0xee, len), len }
    }

    fn write(&self, sector: u64, len: usize) -> Request<Arena> {
        Request::Write { sector, buffer: self.buffer(7, len) }
    }
}

type Outcome = Result<Option<DmaBuffer<Arena>>, BlockError>;

#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn what_is_written_is_read() {
    let mut world = World::new(ALL);
    let write = world.write(3, 1024);
    let buffer = world.run(write).unwrap().expect("the buffer comes back");
    assert_eq!(buffer[..], [7; 1024]);
    let read = world.read(2, 2048);
    let buffer = world.run(read).unwrap().expect("the data");
    assert_eq!([buffer[511], buffer[512], buffer[1535], buffer[1536]], [0, 7, 7, 0]);
    assert!(world.run(Request::Flush).unwrap().is_none());
    assert_eq!(world.disk.flush_count, 1);
    assert!(world.run(Request::Discard { sector: 4, count: 1 }).unwrap().is_none());
    assert_eq!(world.disk.content[3 * 512..5 * 512], [[7; 512], [0; 512]].concat());
}

#[test]
fn many_requests_are_in_flight_with_one_notification() {
    let mut world = World::new(ALL);
    let mut tickets = Vec::new();
    for sector in 0..5_u8 {
        world.disk.content[usize::from(sector) * 512] = sector;
        let request = world.read(u64::from(sector), 512);
        let Poll::Ready(ticket) = world.submit(request) else { panic!("there is room") };
        tickets.push(Some(ticket.unwrap()));
    }
    world.block.kick();
    assert_eq!(world.host.take_notifications(), [0]);
    assert!(!world.block.enable_events());
    assert!(world.disk.serve(), "the driver asked for an event");
    assert!(world.block.enable_events(), "it is there already");
    world.block.poll(&mut world.wakers);
    for (sector, ticket) in tickets.iter_mut().enumerate().rev() {
        let Poll::Ready(Ok(Some(buffer))) = world.outcome(ticket) else { panic!("it is done") };
        assert_eq!(buffer[0] as usize, sector);
    }
}

#[test]
fn a_full_queue_wakes_who_waits_for_room() {
    let mut world = World::new(ALL);
    let counter = Arc::new(Counter::default());
    let waker = Waker::from(counter.clone());
    let mut context = Context::from_waker(&waker);
    // Five requests of three descriptors fit into sixteen.
    let mut tickets: Vec<_> = (0..5)
        .map(|_| match world.submit(world.read(0, 512)) {
            Poll::Ready(ticket) => Some(ticket.unwrap()),
            Poll::Pending => panic!("there is room"),
        })
        .collect();
    let mut request = Some(world.read(0, 512));
    for _ in 0..3 {
        assert!(world.block.poll_submit(&mut request, &mut context).is_pending());
    }
    assert!(request.is_some(), "the request was not lost");
    assert!(world.block.poll_outcome(&mut tickets[0], &mut context).is_pending());
    world.block.kick();
    world.disk.serve();
    world.block.poll(&mut world.wakers);
    world.wakers.drain(..).for_each(Waker::wake);
    assert_eq!(counter.0.load(Ordering::Relaxed), 2, "once for the outcome, once for the room");
    assert!(world.block.poll_submit(&mut request, &mut context).is_ready());
    assert!(request.is_none());
}

#[test]
fn an_abandoned_request_is_finished_for_nobody() {
    let mut world = World::new(ALL);
    for _ in 0..100 {
        let request = world.write(1, 512);
        let Poll::Ready(Ok(ticket)) = world.submit(request) else { panic!("there is room") };
        world.block.kick();
        world.block.abandon(ticket);
        world.disk.serve();
        world.block.poll(&mut world.wakers);
    }
    assert_eq!(world.disk.content[512..1024], [7; 512]);
    let request = world.read(1, 512);
    assert_eq!(world.run(request).unwrap().unwrap()[..], [7; 512]);
}

#[test]
fn an_outcome_is_fetched_once() {
    let mut world = World::new(ALL);
    assert!(matches!(world.outcome(&mut None), Poll::Ready(Err(BlockError::NoRequest))));
    let mut context = Context::from_waker(Waker::noop());
    let nothing = world.block.poll_submit(&mut None, &mut context);
    assert!(matches!(nothing, Poll::Ready(Err(BlockError::NoRequest))));
}

#[test]
fn requests_that_break_a_rule_never_reach_the_device() {
    let check = |features: u64, make: fn(&World) -> Request<Arena>, expect| {
        let mut world = World::new(features);
        let request = make(&world);
        assert_eq!(world.run(request).unwrap_err(), expect);
        world.block.kick();
        assert!(world.host.take_notifications().is_empty());
    };
    check(ALL | BLK_RO, |w| w.write(0, 512), BlockError::ReadOnly);
    check(ALL | BLK_RO, |_| Request::Discard { sector: 0, count: 1 }, BlockError::ReadOnly);
    check(ALL, |w| w.read(64, 512), BlockError::Range);
    check(ALL, |w| w.read(63, 1024), BlockError::Range);
    check(ALL, |w| w.write(u64::MAX, 512), BlockError::Range);
    check(ALL, |w| w.read(0, 511), BlockError::Range);
    check(ALL, |_| Request::Discard { sector: 60, count: 5 }, BlockError::Range);
    check(ALL, |_| Request::Discard { sector: 0, count: 9 }, BlockError::Range);
    check(ALL, |_| Request::Discard { sector: 0, count: 0 }, BlockError::Range);
    check(VERSION_1, |_| Request::Flush, BlockError::Unsupported);
    check(VERSION_1, |_| Request::Discard { sector: 0, count: 1 }, BlockError::Unsupported);
}

#[test]
fn the_status_decides() {
    let check = |status, expect| {
        let mut world = World::new(ALL);
        world.disk.forced_status = Some(status);
        let request = world.read(0, 512);
        assert_eq!(world.run(request).unwrap_err(), expect);
    };
    check(1, BlockError::Io);
    check(2, BlockError::Unsupported);
    check(3, BlockError::Io);
    check(0xff, BlockError::Io);
}

#[test]
fn a_read_that_the_device_did_not_finish_is_an_error() {
    let mut world = World::new(ALL);
    let request = world.read(0, 512);
    let Poll::Ready(Ok(ticket)) = world.submit(request) else { panic!("there is room") };
    world.block.kick();
    let chain = world.disk.queue().take().unwrap();
    assert_eq!(world.disk.serve_chain(&chain), 513);
    world.disk.queue().finish(chain.head, 512);
    world.block.poll(&mut world.wakers);
    assert!(matches!(world.outcome(&mut Some(ticket)), Poll::Ready(Err(BlockError::Io))));
}

#[test]
fn a_device_that_breaks_the_ring_fails_everything() {
    let mut world = World::new(ALL);
    let request = world.read(0, 512);
    let Poll::Ready(Ok(first)) = world.submit(request) else { panic!("there is room") };
    let request = world.read(0, 512);
    let Poll::Ready(Ok(second)) = world.submit(request) else { panic!("there is room") };
    world.block.kick();
    world.disk.queue().finish(15, 0);
    world.block.abandon(second);
    world.block.poll(&mut world.wakers);
    let dead = BlockError::Ring(RingFault::Id(15));
    assert_eq!(world.outcome(&mut Some(first)).map(Result::unwrap_err), Poll::Ready(dead));
    let request = world.read(0, 512);
    assert_eq!(world.run(request).unwrap_err(), dead);
}

#[test]
fn a_device_that_cannot_be_used_is_refused() {
    let arena = Arena::default();
    let check = |change: fn(&mut Device), expect| {
        let mut device = device(ALL);
        change(&mut device);
        let host = Host::new(&arena, device);
        assert_eq!(Block::new(arena.clone(), host, 0, &device).unwrap_err(), expect);
    };
    check(|d| d.kind = DeviceKind::Net as u32, AttachError::Device);
    check(|d| d.queue_count = 2, AttachError::Device);
    check(|d| d.features = 0, AttachError::Version);
    check(|d| d.queue_size_max = 100, AttachError::Memory);
}
