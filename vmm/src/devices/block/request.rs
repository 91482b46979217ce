//! Requests as the driver writes them (virtio 1.2, 5.2.6), parsed into what is to be done.
use super::super::queue::Chain;
use super::super::slices::{GuestSlice, read_at, skip_bytes, total_len, truncate_bytes};
use paravane_abi::device::{SECTOR_SIZE, feature};

/// Bytes of the header of a request.
const HEADER_LEN: usize = 16;
/// Bytes of a segment of a discard request.
const DISCARD_SEGMENT_LEN: usize = 16;
/// Most segments of one discard request.
const DISCARD_SEGMENTS_MAX: usize = 32;
/// Most sectors of one discard segment: 1 GiB.
pub(super) const DISCARD_SECTORS_MAX: u32 = 1 << 21;

const TYPE_IN: u32 = 0;
const TYPE_OUT: u32 = 1;
const TYPE_FLUSH: u32 = 4;
const TYPE_GET_ID: u32 = 8;
const TYPE_DISCARD: u32 = 11;

/// The status byte of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Status {
    Ok = 0,
    IoError = 1,
    Unsupported = 2,
}

/// A range of bytes of the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// What a request asks for. The data of reads and writes is what [`parse`] leaves in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Read { offset: u64 },
    Write { offset: u64 },
    Flush,
    Discard(Vec<Range>),
    GetId,
}

/// What the device accepts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Size of the medium, sectors.
    pub(super) capacity: u64,
    /// The device is read-only.
    pub(super) is_read_only: bool,
    /// Feature bits negotiated.
    pub(super) features: u64,
}

impl Limits {
    fn range(&self, sector: u64, len: u64) -> Result<Range, Status> {
        let sectors = len / SECTOR_SIZE;
        let end = sector.checked_add(sectors).ok_or(Status::IoError)?;
        if !len.is_multiple_of(SECTOR_SIZE) || end > self.capacity {
            return Err(Status::IoError);
        }
        // No overflow: the capacity in bytes is a file's size.
        Ok(Range { offset: sector * SECTOR_SIZE, len })
    }

    fn negotiated(&self, bit: u64) -> Result<(), Status> {
        if self.features & bit == 0 { Err(Status::Unsupported) } else { Ok(()) }
    }
}

/// A request taken apart: where its status goes, and what to do or the status to fail it with.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) status: GuestSlice,
    pub(super) operation: Result<Operation, Status>,
}

/// Parses the request in `chain`, and leaves the data of a read in `chain.writable` and that of a write
/// in `chain.readable`. How the driver spread the parts over descriptors does not matter (2.7.4).
///
/// # Errors
/// Why no status can be given to the driver, as a clause.
pub(super) fn parse(chain: &mut Chain, limits: &Limits) -> Result<Request, &'static str> {
    let mut header = [0; HEADER_LEN];
    if !read_at(&chain.readable, 0, &mut header) {
        return Err("a request is shorter than its header");
    }
    skip_bytes(&mut chain.readable, HEADER_LEN);
    let data_len =
        total_len(&chain.writable).checked_sub(1).ok_or("a request has no room for its status")?;
    let mut status = chain.writable.clone();
    skip_bytes(&mut status, data_len);
    truncate_bytes(&mut chain.writable, data_len);
    let status = *status.first().ok_or("a request has no room for its status")?;
    Ok(Request { status, operation: operation(header, chain, limits) })
}

fn operation(
    header: [u8; HEADER_LEN],
    chain: &Chain,
    limits: &Limits,
) -> Result<Operation, Status> {
    let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
    let sector = u64::from_le_bytes(sector);
    match u32::from_le_bytes([t0, t1, t2, t3]) {
        TYPE_IN => {
            let range = limits.range(sector, total_len(&chain.writable) as u64)?;
            Ok(Operation::Read { offset: range.offset })
        }
        TYPE_OUT if limits.is_read_only => Err(Status::IoError),
        TYPE_OUT => {
            let range = limits.range(sector, total_len(&chain.readable) as u64)?;
            Ok(Operation::Write { offset: range.offset })
        }
        TYPE_FLUSH => limits.negotiated(feature::BLK_FLUSH).map(|()| Operation::Flush),
        TYPE_GET_ID => Ok(Operation::GetId),
        TYPE_DISCARD => {
            limits.negotiated(feature::BLK_DISCARD)?;
            discard(&chain.readable, limits).map(Operation::Discard)
        }
        _ => Err(Status::Unsupported),
    }
}

fn discard(slices: &[GuestSlice], limits: &Limits) -> Result<Vec<Range>, Status> {
    let len = total_len(slices);
    let count = len / DISCARD_SEGMENT_LEN;
    if !len.is_multiple_of(DISCARD_SEGMENT_LEN) || !(1..=DISCARD_SEGMENTS_MAX).contains(&count) {
        return Err(Status::IoError);
    }
    (0..count)
        .map(|i| {
            let mut segment = [0; DISCARD_SEGMENT_LEN];
            read_at(slices, i * DISCARD_SEGMENT_LEN, &mut segment);
            discard_range(segment, limits)
        })
        .collect()
}

fn discard_range(segment: [u8; DISCARD_SEGMENT_LEN], limits: &Limits) -> Result<Range, Status> {
    let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, flags @ ..] = segment;
    if u32::from_le_bytes(flags) != 0 {
        return Err(Status::Unsupported);
    }
    let sectors = u32::from_le_bytes([n0, n1, n2, n3]);
    if sectors == 0 || sectors > DISCARD_SECTORS_MAX {
        return Err(Status::IoError);
    }
    let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    limits.range(sector, u64::from(sectors) * SECTOR_SIZE)
}
