//! The guest's own drivers on the host's devices: the two sides that meet in every domain, written
//! independently of each other. A side looks at a ring only when it was told to, so that a
//! notification that one of them forgets shows as a test that does not end.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test, on 64 bits")]
use bytes::Bytes;
use paravane::devices::{BlockDevice, Device, NetDevice};
use paravane::memory::GuestRam;
use paravane::net::wire;
use paravane_abi::device::{Attach, NetConfig, feature};
use paravane_abi::layout::RAM_BASE;
use paravane_pv_drivers::block::{Block, BlockError, Request, Ticket};
use paravane_pv_drivers::net::{Checksum, FrameMeta, Net, Segmentation, TransmitError};
use paravane_pv_drivers::{Dma, DmaBuffer, Transport, TransportError};
use std::alloc::Layout;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use zerocopy::IntoBytes;

/// The RAM of the one guest that a process has room for; tests share it.
fn ram() -> &'static GuestRam {
    static RAM: OnceLock<GuestRam> = OnceLock::new();
    RAM.get_or_init(|| GuestRam::new(1 << 30).unwrap())
}

/// A part of the RAM, with freed memory for reuse by its layout.
#[derive(Clone, Debug, Default)]
struct GuestHeap(Rc<RefCell<HashMap<Layout, Vec<NonNull<u8>>>>>);

// SAFETY: memory is carved off RAM once, or was freed with the same layout; it is zeroed. Device
// addresses are RAM offsets.
unsafe impl Dma for GuestHeap {
    fn allocate(&self, layout: Layout) -> Option<NonNull<u8>> {
        static END: AtomicU64 = AtomicU64::new(4096);
        let reused = self.0.borrow_mut().get_mut(&layout).and_then(Vec::pop);
        let memory = reused.or_else(|| {
            // Room for any alignment up to a page.
            let offset =
                END.fetch_add((layout.size() as u64).next_multiple_of(4096), Ordering::Relaxed);
            assert!(offset + layout.size() as u64 <= ram().size());
            let address = usize::try_from(RAM_BASE + offset).ok()?;
            NonNull::new(core::ptr::with_exposed_provenance_mut(address))
        })?;
        // SAFETY: it lies in RAM and belongs to nobody else.
        unsafe { memory.write_bytes(0, layout.size()) };
        Some(memory)
    }

    unsafe fn deallocate(&self, memory: NonNull<u8>, layout: Layout) {
        self.0.borrow_mut().entry(layout).or_default().push(memory);
    }

    /// Only what lies in RAM, which tests get from `allocate`.
    fn reaches(&self, bytes: &[u8]) -> bool {
        (RAM_BASE..RAM_BASE + ram().size()).contains(&(bytes.as_ptr().addr() as u64))
    }

    fn device_address(&self, memory: NonNull<u8>) -> u64 {
        memory.addr().get() as u64 - RAM_BASE
    }
}

/// The hypercalls of a guest with one device.
#[derive(Debug)]
struct Host<T>(Rc<RefCell<T>>);

impl<T> Clone for Host<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Device> Transport for Host<T> {
    unsafe fn attach(&self, attach: &Attach) -> Result<(), TransportError> {
        let mut device = self.0.borrow_mut();
        let attach = Attach::parse(attach.as_bytes(), &device.entry(), 0, ram().size());
        let attach = attach.map_err(|_| TransportError(-1))?;
        device.attach(ram(), &attach).map_err(|_| TransportError(-2))
    }

    fn notify(&self, _device: u32, queue: u16) {
        self.0.borrow_mut().notify(ram(), queue).unwrap();
    }
}

impl<T: Device> Host<T> {
    /// `WAIT`: returns when the device has news that the guest asked for.
    fn wait(&self) {
        loop {
            let mut device = self.0.borrow_mut();
            if device.poll(ram()).unwrap() {
                return;
            }
            let mut descriptors = Vec::new();
            device.interests(&mut descriptors);
            let count = libc::nfds_t::try_from(descriptors.len()).unwrap();
            // SAFETY: the array has that many entries and outlives the call.
            let ready = unsafe { libc::poll(descriptors.as_mut_ptr(), count, 10_000) };
            assert!(ready > 0, "the guest sleeps on, and so does the device");
        }
    }

    /// `WAIT` with deadline 0.
    fn look(&self) {
        self.0.borrow_mut().poll(ram()).unwrap();
    }
}

type GuestNet = Net<GuestHeap, Host<NetDevice>>;

/// Both kinds of notification suppression: with EVENT_IDX and without.
const EVENT_KINDS: [u64; 2] = [!0, !feature::RING_EVENT_IDX];

/// A network device that offers the features of `mask` only.
fn network(mask: u64) -> (GuestNet, Host<NetDevice>, wire::End) {
    let (guests, wire) = wire::pair().unwrap();
    let config = NetConfig { mtu: 1500, ..NetConfig::default() };
    let device = NetDevice::new("net", guests.into(), config);
    let mut entry = device.entry();
    entry.features &= mask;
    let host = Host(Rc::new(RefCell::new(device)));
    let net = Net::new(GuestHeap::default(), host.clone(), 0, &entry).unwrap();
    (net, host, wire)
}

/// The bytes of frame number `index`: of all sizes from a small one to the largest.
fn frame(index: usize) -> Vec<u8> {
    let len = [14, 60, 590, 1514, 2036, 2037, 9000, 40_000, 65_549][index % 9];
    (0..len).map(|i| (i % 251 + index).to_le_bytes()[0]).collect()
}

fn meta(index: usize) -> FrameMeta {
    match index % 3 {
        0 => FrameMeta::default(),
        1 => FrameMeta { checksum: Checksum::Partial { start: 2, offset: 4 }, segmentation: None },
        _ => FrameMeta {
            checksum: Checksum::Partial { start: 2, offset: 4 },
            segmentation: Some(Segmentation { segment_size: 1448, header_len: 10, is_ipv6: false }),
        },
    }
}

/// The header that a frame with [`meta`] is sent with.
fn header(index: usize) -> [u8; 12] {
    match index % 3 {
        0 => [0; 12],
        1 => [1, 0, 0, 0, 0, 0, 2, 0, 4, 0, 0, 0],
        _ => [1, 1, 10, 0, 0xa8, 5, 2, 0, 4, 0, 0, 0],
    }
}

#[test]
fn every_frame_sent_arrives_in_order() {
    EVENT_KINDS.into_iter().for_each(check_sent);
}

/// Sends frame number `index`, written in place or by reference. False if there is no room.
fn send(net: &mut GuestNet, index: usize) -> bool {
    let frame = frame(index);
    if index.is_multiple_of(2) {
        let Some(mut buffer) = net.transmit_buffer(frame.len()) else { return false };
        buffer.copy_from_slice(&frame);
        net.commit(buffer, meta(index)).unwrap();
        return true;
    }
    let (head, body) = frame.split_at(14);
    let body = in_ram(body);
    let pieces: Vec<_> =
        (0..5).map(|i| body.slice(body.len() * i / 5..body.len() * (i + 1) / 5)).collect();
    match net.send(head, &pieces, meta(index)) {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error, TransmitError::Full);
            false
        }
    }
}

/// A copy of `bytes` that lies in RAM.
fn in_ram(bytes: &[u8]) -> Bytes {
    struct InRam(NonNull<[u8]>);
    // SAFETY: as for a `Box<[u8]>`: the bytes are the owner's alone.
    unsafe impl Send for InRam {}
    impl AsRef<[u8]> for InRam {
        fn as_ref(&self) -> &[u8] {
            // SAFETY: they stay allocated, and nobody writes to them any more.
            unsafe { self.0.as_ref() }
        }
    }
    let Ok(layout) = Layout::array::<u8>(bytes.len().max(1)) else { return Bytes::new() };
    let memory = GuestHeap::default().allocate(layout).expect("there is memory");
    // SAFETY: the allocation has that many bytes.
    unsafe { memory.copy_from_nonoverlapping(NonNull::from_ref(bytes).cast(), bytes.len()) };
    Bytes::from_owner(InRam(NonNull::slice_from_raw_parts(memory, bytes.len())))
}

fn check_sent(mask: u64) {
    const COUNT: usize = 500;
    let (mut net, host, mut wire) = network(mask);
    let mut message = vec![0; 1 << 17];
    let (mut sent, mut arrived) = (0, 0);
    while arrived < COUNT {
        while sent < COUNT && send(&mut net, sent) {
            sent += 1;
        }
        net.flush();
        // The other end takes some, and then the guest waits for room.
        for _ in 0..50 {
            let Some(len) = wire.incoming.receive(&mut message).unwrap() else { break };
            assert_eq!(message[..12], header(arrived), "frame {arrived}");
            assert!(message[12..len] == frame(arrived), "frame {arrived}");
            arrived += 1;
        }
        if sent < COUNT && !net.enable_events() {
            host.wait();
        } else {
            host.look();
        }
    }
}

#[test]
fn every_frame_received_arrives_in_order() {
    EVENT_KINDS.into_iter().for_each(check_received);
}

fn check_received(mask: u64) {
    const COUNT: usize = 500;
    let (mut net, host, mut wire) = network(mask);
    let mut scratch = Vec::new();
    let (mut sent, mut arrived) = (0, 0);
    while arrived < COUNT {
        while sent < COUNT {
            let message = [header(sent).as_slice(), &frame(sent)].concat();
            if !wire.outgoing.send(&message) {
                break;
            }
            sent += 1;
        }
        if !net.enable_events() {
            host.wait();
        }
        while let Some(received) = net.receive().unwrap() {
            assert_eq!(received.meta(), meta(arrived), "frame {arrived}");
            assert!(received.contiguous(&mut scratch) == frame(arrived), "frame {arrived}");
            net.recycle(received);
            arrived += 1;
        }
        net.flush();
    }
}

const SECTORS: u64 = 256;
const SECTOR: usize = 512;

/// A disk in use.
struct GuestDisk {
    block: Block<GuestHeap, Host<BlockDevice>>,
    host: Host<BlockDevice>,
    file: File,
}

type Outcome = Result<Option<DmaBuffer<GuestHeap>>, BlockError>;

impl GuestDisk {
    fn new(is_read_only: bool) -> Self {
        let file = tempfile::tempfile().unwrap();
        file.set_len(SECTORS * SECTOR as u64).unwrap();
        let mut device = BlockDevice::new("disk", file.try_clone().unwrap(), is_read_only).unwrap();
        device.start().unwrap();
        let entry = device.entry();
        let host = Host(Rc::new(RefCell::new(device)));
        let block = Block::new(GuestHeap::default(), host.clone(), 0, &entry).unwrap();
        Self { block, host, file }
    }

    fn buffer(&self, len: usize, byte: u8) -> DmaBuffer<GuestHeap> {
        let mut buffer = self.block.buffer(len).unwrap();
        buffer.fill(byte);
        buffer
    }

    fn try_submit(&mut self, request: &mut Option<Request<GuestHeap>>) -> Option<Ticket> {
        let mut context = Context::from_waker(Waker::noop());
        match self.block.poll_submit(request, &mut context) {
            Poll::Ready(ticket) => Some(ticket.unwrap()),
            Poll::Pending => None,
        }
    }

    /// Waits for the outcome of a request.
    fn outcome(&mut self, ticket: Ticket) -> Outcome {
        let mut ticket = Some(ticket);
        loop {
            self.block.kick();
            self.block.poll(&mut Vec::new());
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(outcome) = self.block.poll_outcome(&mut ticket, &mut context) {
                return outcome;
            }
            if !self.block.enable_events() {
                self.host.wait();
            }
        }
    }

    fn run(&mut self, request: Request<GuestHeap>) -> Outcome {
        let ticket = self.try_submit(&mut Some(request)).expect("there is room");
        self.outcome(ticket)
    }

    fn content(&mut self) -> Vec<u8> {
        let mut content = Vec::new();
        self.file.seek(SeekFrom::Start(0)).unwrap();
        self.file.read_to_end(&mut content).unwrap();
        content
    }
}

#[test]
fn what_is_written_is_in_the_file_and_is_read() {
    let mut disk = GuestDisk::new(false);
    assert_eq!(disk.block.capacity_sectors(), SECTORS);
    let buffer = disk.buffer(3 * SECTOR, 7);
    disk.run(Request::Write { sector: 9, buffer }).unwrap();
    disk.run(Request::Flush).unwrap();
    let mut expect = vec![0; SECTORS as usize * SECTOR];
    expect[9 * SECTOR..12 * SECTOR].fill(7);
    assert!(disk.content() == expect);
    let buffer = disk.buffer(SECTORS as usize * SECTOR, 1);
    let len = buffer.len();
    let read = disk.run(Request::Read { sector: 0, buffer, len }).unwrap().unwrap();
    assert!(read[..] == expect);
    disk.run(Request::Discard { sector: 10, count: 1 }).unwrap();
    expect[10 * SECTOR..11 * SECTOR].fill(0);
    assert!(disk.content() == expect);
}

#[test]
fn many_requests_in_flight_each_get_their_own_outcome() {
    const COUNT: u64 = 2000;
    /// Three descriptors each, of 128.
    const REQUESTS_IN_FLIGHT: usize = 42;
    let mut disk = GuestDisk::new(false);
    let mut expect = vec![0; SECTORS as usize];
    let mut in_flight = VecDeque::new();
    for index in 0..COUNT {
        // Requests in flight have no order: those for one sector are further apart than that.
        let (sector, is_write) = (index * 89 % SECTORS, (index / SECTORS).is_multiple_of(2));
        let byte = (index % 250).to_le_bytes()[0];
        if is_write {
            expect[sector as usize] = byte;
        }
        let buffer = disk.buffer(SECTOR, byte);
        let mut request = Some(if is_write {
            Request::Write { sector, buffer }
        } else {
            Request::Read { sector, buffer, len: SECTOR }
        });
        if in_flight.len() == REQUESTS_IN_FLIGHT {
            let (ticket, expected) = in_flight.pop_front().unwrap();
            check(disk.outcome(ticket), expected);
        }
        let ticket = disk.try_submit(&mut request).expect("there is room");
        in_flight.push_back((ticket, expect[sector as usize]));
    }
    for (ticket, expected) in in_flight {
        check(disk.outcome(ticket), expected);
    }
}

fn check(outcome: Outcome, expected: u8) {
    let buffer = outcome.unwrap().expect("reads and writes give the buffer back");
    assert!(buffer.iter().all(|byte| *byte == expected));
}

#[test]
fn a_read_only_disk_is_read() {
    let mut disk = GuestDisk::new(true);
    assert!(disk.block.is_read_only() && !disk.block.has_flush());
    let buffer = disk.buffer(SECTOR, 1);
    let read =
        disk.run(Request::Read { sector: SECTORS - 1, buffer, len: SECTOR }).unwrap().unwrap();
    assert_eq!(read[..], [0; SECTOR]);
}
