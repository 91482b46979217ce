//! The device between a model driver and a file.
use super::super::test_driver::{BUFFERS, DriverQueue, RAM_SIZE, Raw, WRITE, attach};
use super::super::{Device, GuestFault};
use super::BlockDevice;
use crate::memory::GuestRam;
use paravane_abi::device::feature;
use proptest::prelude::*;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

const SECTOR: usize = 512;
const SECTORS: usize = 64;
const HEADER: u64 = BUFFERS;
const DATA: u64 = BUFFERS + 0x1000;
const STATUS: u64 = BUFFERS + 0x8_0000;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;

const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;
const UNTOUCHED: u8 = 0xEE;

struct Bench {
    ram: GuestRam,
    device: BlockDevice,
    queue: DriverQueue,
    file: File,
}

impl Bench {
    fn new(is_read_only: bool) -> Self {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content()).unwrap();
        Self::over(file, is_read_only, u64::MAX)
    }

    fn over(file: File, is_read_only: bool, features: u64) -> Self {
        let mut device = BlockDevice::new("disk", file.try_clone().unwrap(), is_read_only).unwrap();
        device.start().unwrap();
        let features = device.entry().features & features | feature::VERSION_1;
        let (ram, mut queues, attach) = attach(&device.entry(), features);
        device.attach(&ram, &attach).unwrap();
        Self { ram, device, queue: queues.pop().unwrap(), file }
    }

    fn header(&self, kind: u32, sector: u64) {
        self.queue.put(HEADER, &kind.to_le_bytes());
        self.queue.put(HEADER + 8, &sector.to_le_bytes());
        self.queue.put(STATUS, &[UNTOUCHED]);
    }

    /// Makes a request and waits for it: status and bytes written.
    fn request(&mut self, kind: u32, sector: u64, data: &[(u64, u32, u16)]) -> (u8, u32) {
        self.header(kind, sector);
        let mut chain = vec![(HEADER, 16, 0)];
        chain.extend_from_slice(data);
        chain.push((STATUS, 1, WRITE));
        let head = self.queue.add(&chain);
        self.device.notify(&self.ram, 0).unwrap();
        let (used, len) = self.wait().unwrap();
        assert_eq!(used, head);
        (self.queue.get(STATUS, 1)[0], len)
    }

    /// Polls as `WAIT` does until a chain comes back.
    fn wait(&mut self) -> Result<(u16, u32), GuestFault> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            self.device.poll(&self.ram)?;
            if let Some(used) = self.queue.take() {
                return Ok(used);
            }
            let mut descriptors = Vec::new();
            self.device.interests(&mut descriptors);
            let descriptor = descriptors.first_mut().expect("something to wait for");
            // SAFETY: one pollfd, which outlives the call.
            unsafe { libc::poll(descriptor, 1, 1000) };
            assert!(Instant::now() < deadline);
        }
    }

    fn on_disk(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(0)).unwrap();
        self.file.read_to_end(&mut bytes).unwrap();
        bytes
    }
}

fn content() -> Vec<u8> {
    (0..SECTORS * SECTOR).map(|i| (i / SECTOR * 7 + i).to_le_bytes()[0]).collect()
}

#[test]
fn sectors_are_read() {
    for is_read_only in [false, true] {
        let mut bench = Bench::new(is_read_only);
        let data = [(DATA, 700, WRITE), (DATA + 700, 836, WRITE)];
        assert_eq!(bench.request(IN, 3, &data), (OK, 1537));
        assert_eq!(bench.queue.get(DATA, 1536), content()[3 * SECTOR..6 * SECTOR]);
    }
}

#[test]
fn sectors_are_written_and_flushed() {
    let mut bench = Bench::new(false);
    bench.queue.put(DATA, &[0x5A; 1024]);
    assert_eq!(bench.request(OUT, 62, &[(DATA, 100, 0), (DATA + 100, 924, 0)]), (OK, 1));
    assert_eq!(bench.request(FLUSH, 0, &[]), (OK, 1));
    let mut expect = content();
    expect[62 * SECTOR..].fill(0x5A);
    assert_eq!(bench.on_disk(), expect);
    assert_eq!(bench.request(IN, 62, &[(DATA + 4096, 1024, WRITE)]), (OK, 1025));
    assert_eq!(bench.queue.get(DATA + 4096, 1024), [0x5A; 1024]);
}

#[test]
fn how_a_request_is_spread_over_descriptors_does_not_matter() {
    let mut bench = Bench::new(false);
    bench.header(IN, 1);
    // Header in two, status in one with the data.
    bench.queue.add(&[(HEADER, 9, 0), (HEADER + 9, 7, 0), (DATA, 513, WRITE)]);
    assert_eq!(bench.wait().unwrap().1, 513);
    let mut expect = content()[SECTOR..2 * SECTOR].to_vec();
    expect.push(OK);
    assert_eq!(bench.queue.get(DATA, 513), expect);
}

#[test]
fn discarded_sectors_read_as_zeroes() {
    let mut bench = Bench::new(false);
    let segment = |sector: u64, count: u32, flags: u32| {
        let mut bytes = sector.to_le_bytes().to_vec();
        bytes.extend(count.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes
    };
    bench.queue.put(DATA, &[segment(0, 8, 0), segment(16, 1, 0)].concat());
    assert_eq!(bench.request(DISCARD, 0, &[(DATA, 32, 0)]), (OK, 1));
    let mut expect = content();
    expect[..8 * SECTOR].fill(0);
    expect[16 * SECTOR..17 * SECTOR].fill(0);
    assert_eq!(bench.on_disk(), expect);

    let mut check = |segment: Vec<u8>, status| {
        bench.queue.put(DATA, &segment);
        let len = u32::try_from(segment.len()).unwrap();
        assert_eq!(bench.request(DISCARD, 0, &[(DATA, len, 0)]), (status, 1));
    };
    check(segment(0, 1, 1), UNSUPPORTED);
    check(segment(60, 5, 0), IO_ERROR);
    check(segment(u64::MAX, 1, 0), IO_ERROR);
    check(segment(0, 0, 0), IO_ERROR);
    check(segment(0, 1, 0)[..15].to_vec(), IO_ERROR);
}

#[test]
fn a_disk_says_its_name() {
    let mut bench = Bench::new(true);
    assert_eq!(bench.request(GET_ID, 0, &[(DATA, 20, WRITE)]), (OK, 21));
    assert_eq!(bench.queue.get(DATA, 20), *b"disk\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn what_is_beyond_the_end_fails() {
    let mut bench = Bench::new(false);
    for (kind, flags) in [(IN, WRITE), (OUT, 0)] {
        for sector in [63, 64, 1 << 40, u64::MAX, u64::MAX / 512] {
            assert_eq!(bench.request(kind, sector, &[(DATA, 1024, flags)]), (IO_ERROR, 1));
        }
        assert_eq!(bench.request(kind, 0, &[(DATA, 100, flags)]), (IO_ERROR, 1));
    }
    assert_eq!(bench.on_disk(), content());
}

#[test]
fn a_read_only_disk_is_not_written() {
    let mut bench = Bench::new(true);
    assert_ne!(bench.device.entry().features & feature::BLK_RO, 0);
    assert_eq!(bench.request(OUT, 0, &[(DATA, 512, 0)]), (IO_ERROR, 1));
    assert_eq!(bench.request(DISCARD, 0, &[(DATA, 16, 0)]), (UNSUPPORTED, 1));
    assert_eq!(bench.request(77, 0, &[]), (UNSUPPORTED, 1));
    assert_eq!(bench.on_disk(), content());
}

#[test]
fn errors_of_the_file_become_a_status() {
    let path = tempfile::NamedTempFile::new().unwrap();
    path.as_file().set_len(4096).unwrap();
    // Open for reading only, but offered for writing.
    let mut bench = Bench::over(File::open(path.path()).unwrap(), false, u64::MAX);
    assert_eq!(bench.request(OUT, 0, &[(DATA, 512, 0)]), (IO_ERROR, 1));
    assert_eq!(bench.request(IN, 0, &[(DATA, 512, WRITE)]), (OK, 513));
}

#[test]
fn the_last_sector_is_filled_up_and_a_shrunken_file_reads_as_zeroes() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[7; 700]).unwrap();
    let mut bench = Bench::over(file, true, u64::MAX);
    assert_eq!(bench.device.entry().block.capacity, 2);
    bench.queue.put(DATA, &[9; 1024]);
    assert_eq!(bench.request(IN, 0, &[(DATA, 1024, WRITE)]), (OK, 1025));
    assert_eq!(bench.queue.get(DATA, 1024), [[7; 700].as_slice(), &[0; 324]].concat());
    bench.file.set_len(0).unwrap();
    assert_eq!(bench.request(IN, 0, &[(DATA, 512, WRITE)]), (OK, 513));
    assert_eq!(bench.queue.get(DATA, 512), [0; 512]);
}

#[test]
fn without_the_flush_feature_there_is_no_flush() {
    let mut bench = Bench::over(tempfile::tempfile().unwrap(), false, 0);
    assert_eq!(bench.request(FLUSH, 0, &[]), (UNSUPPORTED, 1));
}

#[test]
fn a_file_in_memory_is_read_at_once() {
    let memory = rustix::fs::memfd_create("disk", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let mut file = File::from(memory);
    file.write_all(&content()).unwrap();
    let mut bench = Bench::over(file, true, u64::MAX);
    bench.header(IN, 0);
    bench.queue.add(&[(HEADER, 16, 0), (DATA, 512, WRITE), (STATUS, 1, WRITE)]);
    bench.device.notify(&bench.ram, 0).unwrap();
    assert!(bench.queue.take().is_some());
    assert_eq!(bench.queue.get(DATA, 512), content()[..512]);
}

#[test]
fn a_request_without_header_or_status_ends_the_domain() {
    let check = |what: &str, chain: &[(u64, u32, u16)]| {
        let mut bench = Bench::new(false);
        bench.header(IN, 0);
        bench.queue.add(chain);
        let fault = bench.device.notify(&bench.ram, 0).unwrap_err();
        assert!(fault.what.contains(what), "{fault}");
    };
    check("header", &[(HEADER, 15, 0), (DATA, 513, WRITE)]);
    check("header", &[(DATA, 513, WRITE)]);
    check("status", &[(HEADER, 16, 0)]);
    check("status", &[(HEADER, 16, 0), (DATA, 0, WRITE)]);
}

#[test]
fn the_same_chain_again_and_again_is_a_fault_not_a_heap() {
    let mut bench = Bench::new(false);
    bench.header(FLUSH, 0);
    let head = bench.queue.add(&[(HEADER, 16, 0), (STATUS, 1, WRITE)]);
    // Completions are never collected: only `notify` is called.
    let fault = (0..1000).find_map(|_| {
        bench.queue.offer(head);
        bench.device.notify(&bench.ram, 0).err()
    });
    assert!(fault.unwrap().what.contains("in flight"));
}

fn raw() -> impl Strategy<Value = Raw> {
    let address = prop_oneof![
        4 => Just(HEADER),
        4 => DATA..DATA + 0x1000,
        1 => 0..RAM_SIZE,
        1 => any::<u64>(),
    ];
    let len = prop_oneof![3 => Just(16), 2 => Just(1), 4 => 0_u32..3000, 1 => any::<u32>()];
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
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is in the rings: a fault or a status, but never a panic or a hang, and the file keeps
    /// its size.
    #[test]
    fn hostile_rings_end_in_a_fault_at_worst(
        table in prop::collection::vec(raw(), 8),
        heads in prop::collection::vec(prop_oneof![8 => 0_u16..8, 1 => any::<u16>()], 0..20),
        kind in prop_oneof![Just(IN), Just(OUT), Just(FLUSH), Just(GET_ID), Just(DISCARD), any::<u32>()],
        sector in prop_oneof![4 => 0_u64..70, 1 => any::<u64>()],
    ) {
        let mut bench = Bench::new(false);
        bench.header(kind, sector);
        table.iter().zip(0..).for_each(|(raw, index)| bench.queue.describe(index, *raw));
        for head in heads {
            bench.queue.offer(head);
            let ended = bench.device.notify(&bench.ram, 0).is_err();
            if ended || bench.device.poll(&bench.ram).is_err() {
                break;
            }
        }
        drop(bench.device);
        prop_assert_eq!(bench.file.metadata().unwrap().len(), content().len() as u64);
    }
}
