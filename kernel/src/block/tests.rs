//! Reads and writes against a model of a disk.
use super::poller::BlockPoller;
use super::volume::Volume;
use crate::executor::Poller;
use crate::time::Instant;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use paravane_abi::device::feature::{BLK_DISCARD, BLK_FLUSH, BLK_RO, RING_EVENT_IDX, VERSION_1};
use paravane_abi::device::{BlockConfig, Device, DeviceKind};
use paravane_pv_drivers::block::{Block, BlockError};
use paravane_pv_drivers::model::{Arena, Disk, Host};

/// A little more than eight pieces.
const SECTORS: u64 = 8 * 256 + 3;
const ALL: u64 = VERSION_1 | RING_EVENT_IDX | BLK_FLUSH | BLK_DISCARD;
const NOW: Instant = Instant::from_nanos(0);

/// A disk and its part of the executor's loop.
struct Bench {
    volume: Volume<Arena, Host>,
    poller: BlockPoller<Arena, Host>,
    disk: Disk,
    host: Host,
    arena: Arena,
}

impl Bench {
    fn new(features: u64, queue_size_max: u16) -> Self {
        let arena = Arena::default();
        let device = Device {
            kind: DeviceKind::Block as u32,
            queue_count: 1,
            queue_size_max,
            features,
            block: BlockConfig { capacity: SECTORS, segments_max: 1, discard_sectors_max: 100 },
            ..Device::default()
        };
        let host = Host::new(&arena, device);
        let block = Block::new(arena.clone(), host.clone(), 0, &device).unwrap();
        let driver = Rc::new(RefCell::new(block));
        let mut disk = Disk::new(&arena, host.queue(0), SECTORS);
        let pattern = (0_u32..).flat_map(|i| (i % 1021).to_le_bytes());
        disk.content.iter_mut().zip(pattern).for_each(|(to, from)| *to = from);
        let poller = BlockPoller::new(driver.clone());
        Self { volume: Volume::new(driver), poller, disk, host, arena }
    }

    /// One turn of the executor's loop; the disk works when it was notified.
    fn turn(&mut self) {
        let is_busy = self.poller.before_wait(NOW);
        let is_notified = !self.host.take_notifications().is_empty();
        let has_event = is_notified && self.disk.serve();
        if is_busy || has_event {
            self.poller.poll(NOW);
        }
    }

    /// Runs a future of this disk to its end.
    fn run<F: Future>(&mut self, make: impl FnOnce(Volume<Arena, Host>) -> F) -> F::Output {
        let mut future = pin!(make(self.volume.clone()));
        for _ in 0..1000 {
            let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(output) = polled {
                return output;
            }
            self.turn();
        }
        panic!("the disk or the guest sleeps on");
    }

    fn read(&mut self, sector: u64, len: usize) -> Result<Vec<u8>, BlockError> {
        self.run(|volume| async move {
            let mut data = vec![0; len];
            volume.read(sector, &mut data).await.map(|()| data)
        })
    }
}

fn bytes(sectors: u64) -> usize {
    usize::try_from(sectors * 512).unwrap()
}

#[test]
fn reads_of_any_length_give_what_is_there() {
    for queue_size_max in [4, 16, 128] {
        let mut bench = Bench::new(ALL, queue_size_max);
        for (sector, count) in [(0, 1), (7, 255), (1, 256), (1, 257), (0, SECTORS), (3, 0)] {
            let data = bench.read(sector, bytes(count)).unwrap();
            assert!(data == bench.disk.content[bytes(sector)..bytes(sector + count)]);
        }
    }
}

#[test]
fn a_buffer_is_read_into_again_and_again() {
    let mut bench = Bench::new(ALL, 16);
    let mut buffer = bench.volume.buffer(bytes(300)).unwrap();
    let address = buffer.device_address();
    let read = |bench: &mut Bench, sector, buffer, len| {
        bench.run(|volume| async move { volume.read_buffer(sector, buffer, len).await })
    };
    for (sector, count) in [(0, 300), (7, 1), (SECTORS - 256, 256)] {
        buffer = read(&mut bench, sector, buffer, bytes(count)).unwrap();
        assert!(buffer[..bytes(count)] == bench.disk.content[bytes(sector)..][..bytes(count)]);
        assert_eq!(buffer.device_address(), address);
    }
    assert!(buffer[bytes(256)..] == bench.disk.content[bytes(256)..bytes(300)], "as it was");
    for (sector, count) in [(0, 301), (SECTORS - 1, 2), (0, 0)] {
        let buffer = bench.volume.buffer(bytes(300)).unwrap();
        let result = read(&mut bench, sector, buffer, bytes(count));
        assert_eq!(result.err(), Some(BlockError::Range));
    }
}

#[test]
fn writes_of_any_length_arrive() {
    let mut bench = Bench::new(ALL, 16);
    let mut expect = bench.disk.content.clone();
    for (sector, count) in [(0, 1), (5, 513), (SECTORS - 1, 1)] {
        let data: Vec<u8> = (0..=250).cycle().take(bytes(count)).collect();
        expect[bytes(sector)..bytes(sector + count)].copy_from_slice(&data);
        bench.run(|volume| async move { volume.write(sector, &data).await }).unwrap();
    }
    assert!(bench.disk.content == expect);
}

#[test]
fn a_flush_reaches_a_device_that_has_one() {
    for (features, flush_count) in [(ALL, 1), (VERSION_1, 0)] {
        let mut bench = Bench::new(features, 16);
        bench.run(|volume| async move { volume.flush().await }).unwrap();
        assert_eq!(bench.disk.flush_count, flush_count);
    }
}

#[test]
fn a_long_discard_is_cut_into_what_the_device_takes() {
    let mut bench = Bench::new(ALL, 16);
    let mut expect = bench.disk.content.clone();
    expect[bytes(10)..bytes(260)].fill(0);
    bench.run(|volume| async move { volume.discard(10, 250).await }).unwrap();
    assert!(bench.disk.content == expect);
}

#[test]
fn what_cannot_be_done_is_refused() {
    let mut bench = Bench::new(ALL, 16);
    assert_eq!(bench.read(0, 100), Err(BlockError::Range));
    assert_eq!(bench.read(SECTORS, 512), Err(BlockError::Range));
    assert_eq!(bench.read(u64::MAX, bytes(512)), Err(BlockError::Range));
    let discard = |sector, count| {
        move |volume: Volume<Arena, Host>| async move { volume.discard(sector, count).await }
    };
    assert_eq!(bench.run(discard(SECTORS - 1, 2)), Err(BlockError::Range));
    assert_eq!(bench.run(discard(u64::MAX, 2)), Err(BlockError::Range));
    let mut bench = Bench::new(VERSION_1 | BLK_RO, 16);
    let write = bench.run(|volume| async move { volume.write(0, &[0; 512]).await });
    assert_eq!(write, Err(BlockError::ReadOnly));
    assert_eq!(bench.run(discard(0, 1)), Err(BlockError::Unsupported));
}

#[test]
fn a_failing_disk_fails_the_whole_read() {
    let mut bench = Bench::new(ALL, 16);
    bench.disk.forced_status = Some(1);
    assert_eq!(bench.read(0, bytes(SECTORS)), Err(BlockError::Io));
    bench.disk.forced_status = None;
    assert!(bench.read(0, bytes(SECTORS)).is_ok());
}

#[test]
fn a_read_may_be_dropped_at_any_point() {
    let mut bench = Bench::new(ALL, 16);
    bench.read(0, 512).unwrap();
    let before = bench.arena.allocated();
    for turns in 0..6 {
        let volume = bench.volume.clone();
        let mut data = vec![0; bytes(SECTORS)];
        {
            let mut read = pin!(volume.read(0, &mut data));
            for _ in 0..turns {
                let context = &mut Context::from_waker(Waker::noop());
                if read.as_mut().poll(context).is_ready() {
                    break;
                }
                bench.turn();
            }
        }
        // What was in flight is finished by the device and dropped by the driver.
        bench.turn();
        bench.turn();
        assert_eq!(bench.read(0, 512).unwrap(), bench.disk.content[..512]);
    }
    // The headers of the requests in flight together are kept for reuse, their data is not.
    assert!(bench.arena.allocated() < before + 1000, "buffers are leaked");
}

#[test]
fn several_tasks_share_a_small_queue() {
    let mut bench = Bench::new(ALL, 4);
    let expect = bench.disk.content[..2048].to_vec();
    let volumes = [0, 1, 2, 3].map(|sector| (sector, bench.volume.clone()));
    let mut reads: Vec<_> = volumes
        .into_iter()
        .map(|(sector, volume)| {
            alloc::boxed::Box::pin(async move {
                let mut data = vec![0; 512];
                volume.read(sector, &mut data).await.map(|()| data)
            })
        })
        .collect();
    let mut done = vec![None; 4];
    for _ in 0..20 {
        for (read, done) in reads.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            let polled = read.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(data) = polled {
                *done = Some(data.unwrap());
            }
        }
        bench.turn();
    }
    let data: Vec<u8> = done.into_iter().flat_map(Option::unwrap).collect();
    assert!(data == expect);
}
