//! Requests and their form on the wire (virtio 1.2, 5.2.6).
use super::BlockError;
use crate::{Chain, Dma, DmaBuffer, Segment};

const TYPE_IN: u32 = 0;
const TYPE_OUT: u32 = 1;
const TYPE_FLUSH: u32 = 4;
const TYPE_DISCARD: u32 = 11;

const STATUS_OK: u8 = 0;
const STATUS_UNSUPPORTED: u8 = 2;
/// What the status byte is before the device writes it; no status of the specification.
const STATUS_NONE: u8 = 0xff;

/// Bytes of a request's header: type u32, reserved u32, sector u64.
const HEADER_LEN: usize = 16;
/// Bytes of a discard segment: sector u64, sectors u32, flags u32.
const DISCARD_LEN: usize = 16;

/// A request to a block device. Data has whole sectors, at least one.
#[derive(Debug)]
pub enum Request<D: Dma> {
    /// Fills the beginning of the buffer with what is at `sector` and behind.
    Read {
        /// First sector.
        sector: u64,
        /// Where the data goes; comes back with it.
        buffer: DmaBuffer<D>,
        /// Bytes of data.
        len: usize,
    },
    /// Writes the buffer to `sector` and behind.
    Write {
        /// First sector.
        sector: u64,
        /// The data; comes back unchanged.
        buffer: DmaBuffer<D>,
    },
    /// Makes everything written so far survive a loss of power.
    Flush,
    /// Says that the content of sectors is not needed any more.
    Discard {
        /// First sector.
        sector: u64,
        /// Number of sectors.
        count: u32,
    },
}

/// The parts of a request that the caller does not see, kept for reuse.
#[derive(Debug)]
pub(super) struct Control<D: Dma> {
    header: DmaBuffer<D>,
    status: DmaBuffer<D>,
}

impl<D: Dma> Control<D> {
    pub(super) fn new(dma: &D) -> Option<Self> {
        let header = DmaBuffer::new(dma, HEADER_LEN, 8)?;
        let status = DmaBuffer::new(dma, 1, 1)?;
        Some(Self { header, status })
    }

    fn fill(&mut self, kind: u32, sector: u64) {
        self.header[..4].copy_from_slice(&kind.to_le_bytes());
        self.header[4..8].fill(0);
        self.header[8..].copy_from_slice(&sector.to_le_bytes());
        self.status[0] = STATUS_NONE;
    }
}

impl<D: Dma> Request<D> {
    /// The first sector and the number of sectors that the request is about; `None` for a flush.
    pub(super) fn range(&self) -> Option<(u64, u64)> {
        let sectors = |len| len as u64 / super::SECTOR_SIZE;
        match self {
            Self::Read { sector, len, .. } => Some((*sector, sectors(*len))),
            Self::Write { sector, buffer } => Some((*sector, sectors(buffer.len()))),
            Self::Discard { sector, count } => Some((*sector, u64::from(*count))),
            Self::Flush => None,
        }
    }

    /// Whether the request changes what is on the device.
    pub(super) fn modifies(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Discard { .. })
    }

    /// Descriptors that the request takes.
    pub(super) fn descriptor_count(&self) -> u16 {
        if matches!(self, Self::Flush) { 2 } else { 3 }
    }

    /// The chain that carries the request; `None` if memory ran out.
    pub(super) fn into_chain(self, dma: &D, mut control: Control<D>) -> Option<Chain<D>> {
        let (kind, header_sector) = match &self {
            Self::Read { sector, .. } => (TYPE_IN, *sector),
            Self::Write { sector, .. } => (TYPE_OUT, *sector),
            Self::Flush => (TYPE_FLUSH, 0),
            Self::Discard { .. } => (TYPE_DISCARD, 0),
        };
        control.fill(kind, header_sector);
        let header = Some(Segment::whole(control.header));
        let status = Some(Segment::whole(control.status));
        let (readable, writable) = match self {
            Self::Read { buffer, len, .. } => (None, Some(Segment::prefix(buffer, len))),
            Self::Write { buffer, .. } => (Some(Segment::whole(buffer)), None),
            Self::Flush => (None, None),
            Self::Discard { sector, count } => {
                (Some(Segment::whole(discard_segment(dma, sector, count)?)), None)
            }
        };
        // The status is the last byte that the device writes.
        let writable = if writable.is_some() { [writable, status] } else { [status, None] };
        Some(Chain { readable: [header, readable], writable })
    }
}

fn discard_segment<D: Dma>(dma: &D, sector: u64, count: u32) -> Option<DmaBuffer<D>> {
    let mut segment = DmaBuffer::new(dma, DISCARD_LEN, 8)?;
    segment[..8].copy_from_slice(&sector.to_le_bytes());
    segment[8..12].copy_from_slice(&count.to_le_bytes());
    Some(segment)
}

/// What has become of a request: the buffer of a read or a write.
pub(super) type Outcome<D> = Result<Option<DmaBuffer<D>>, BlockError>;

/// Takes a finished chain apart.
pub(super) fn finish<D: Dma>(chain: Chain<D>, written: u32) -> (Option<Control<D>>, Outcome<D>) {
    let is_all = u64::from(written) == chain.writable_len();
    let [header, sent] = chain.readable.map(|s| s.map(Segment::into_buffer));
    let [first, second] = chain.writable.map(|s| s.map(Segment::into_buffer));
    // A read has its data in front of the status; everything else has only the status.
    let (status, read) = if second.is_some() { (second, first) } else { (first, None) };
    let code = status.as_ref().map_or(STATUS_NONE, |status| status[0]);
    let is_write = header.as_ref().is_some_and(|header| header[..4] == TYPE_OUT.to_le_bytes());
    let result = match code {
        // Bytes beyond the used length are not to be relied on (2.7.8.2), the status among them.
        STATUS_OK if is_all => Ok(read.or(sent.filter(|_| is_write))),
        STATUS_UNSUPPORTED => Err(BlockError::Unsupported),
        _ => Err(BlockError::Io),
    };
    let control = header.zip(status).map(|(header, status)| Control { header, status });
    (control, result)
}
