//! The transmit queue of the driver, as the stack writes to it.
use bytes::Bytes;
use paravane_netstack::{FramePort, TxMeta};
use paravane_pv_drivers::net::{
    Checksum, FrameMeta, Net, SMALL_FRAME_LEN_MAX, Segmentation, TransmitError, TxBuffer,
};
use paravane_pv_drivers::{Dma, Transport};

/// Longest frame: an IPv4 packet of 65535 bytes in Ethernet.
const LARGE_LEN: usize = 14 + 65_535;

/// Buffers that the driver gave out and that nothing was written to yet, small and large.
pub(super) type Reserve<D> = [Option<TxBuffer<D>>; 2];

/// A driver's transmit queue while the stack has something to say.
pub(super) struct TxPort<'a, D: Dma, T: Transport> {
    driver: &'a mut Net<D, T>,
    reserve: &'a mut Reserve<D>,
    /// Which buffer of the reserve was handed out last.
    current: usize,
}

impl<'a, D: Dma, T: Transport> TxPort<'a, D, T> {
    pub(super) fn new(driver: &'a mut Net<D, T>, reserve: &'a mut Reserve<D>) -> Self {
        Self { driver, reserve, current: 0 }
    }

    /// Makes sure of a buffer of the class. Whether there is one.
    fn reserve(&mut self, class: usize) -> bool {
        if self.reserve[class].is_none() {
            self.reserve[class] =
                self.driver.transmit_buffer([SMALL_FRAME_LEN_MAX, LARGE_LEN][class]);
        }
        self.reserve[class].is_some()
    }
}

impl<D: Dma, T: Transport> FramePort for TxPort<'_, D, T> {
    fn buffer(&mut self, len: usize) -> Option<&mut [u8]> {
        let class = usize::from(len > SMALL_FRAME_LEN_MAX);
        // A large buffer in reserve takes a small frame if need be: room once offered stays.
        self.current = if self.reserve(class) { class } else { 1 };
        self.reserve[self.current].as_deref_mut()
    }

    fn commit(&mut self, len: usize, meta: TxMeta) {
        let Some(mut buffer) = self.reserve[self.current].take() else { return };
        buffer.truncate(len);
        // The stack asks only for what was negotiated, and for one buffer at a time; a frame that the
        // driver drops all the same is lost like one on the wire.
        let _ = self.driver.commit(buffer, frame_meta(meta));
    }

    fn send(&mut self, head: &[u8], body: &[Bytes], meta: TxMeta) -> bool {
        // What the driver does not take for another reason than lack of room is lost, as in `commit`.
        self.driver.send(head, body, frame_meta(meta)) != Err(TransmitError::Full)
    }
}

fn frame_meta(meta: TxMeta) -> FrameMeta {
    let checksum = if meta.needs_csum {
        Checksum::Partial { start: meta.csum_start, offset: meta.csum_offset }
    } else {
        Checksum::Complete
    };
    let segmentation = (meta.gso_size > 0).then_some(Segmentation {
        segment_size: meta.gso_size,
        header_len: meta.hdr_len,
        is_ipv6: meta.gso_is_ipv6,
    });
    FrameMeta { checksum, segmentation }
}
