//! Segments as they arrive.
use super::sequence::Seq;
use smoltcp::wire::{TcpOption, TcpPacket};

/// The flags of a segment that mean something to us (RFC 9293, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags(u8);

impl Flags {
    pub(crate) const FIN: Self = Self(0x01);
    pub(crate) const SYN: Self = Self(0x02);
    pub(crate) const RST: Self = Self(0x04);
    pub(crate) const PSH: Self = Self(0x08);
    pub(crate) const ACK: Self = Self(0x10);
    pub(crate) const SYN_ACK: Self = Self(0x12);
    pub(crate) const RST_ACK: Self = Self(0x14);

    pub(crate) const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    pub(crate) const fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    pub(crate) const fn bits(self) -> u8 {
        self.0
    }
}

/// A timestamps option (RFC 7323, 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timestamp {
    /// The sender's clock.
    pub(crate) value: u32,
    /// The other end's clock, as the sender saw it last.
    pub(crate) echo: u32,
}

/// A received segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) seq: Seq,
    /// What is acknowledged; means nothing without [`Flags::ACK`].
    pub(crate) ack: Seq,
    pub(crate) flags: Flags,
    /// The window field, not scaled.
    pub(crate) window: u16,
    options: &'a [u8],
    pub(crate) payload: &'a [u8],
}

/// The options that only a SYN has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SynOptions {
    pub(crate) mss: Option<u16>,
    pub(crate) window_shift: Option<u8>,
    pub(crate) permits_sack: bool,
    pub(crate) timestamp: Option<u32>,
}

/// Largest window shift (RFC 7323, 2.3).
pub(crate) const WINDOW_SHIFT_MAX: u8 = 14;

/// How the timestamps option begins where nothing else is before it: two fillers, kind, length.
const TIMESTAMP_START: [u8; 4] = [1, 1, 8, 10];

impl<'a> Segment<'a> {
    /// Reads a segment, whose checksum was looked at already. `None` if it is malformed.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<(u16, u16, Self)> {
        let packet = TcpPacket::new_checked(bytes).ok()?;
        let (source, destination) = (packet.src_port(), packet.dst_port());
        let segment = Self {
            seq: Seq(packet.seq_number().0.cast_unsigned()),
            ack: Seq(packet.ack_number().0.cast_unsigned()),
            flags: Flags(bytes[13] & 0x1f),
            window: packet.window_len(),
            options: packet.options(),
            payload: packet.payload(),
        };
        (source != 0 && destination != 0).then_some((source, destination, segment))
    }

    /// The space that it takes among the sequence numbers.
    pub(crate) fn len(&self) -> u32 {
        let control = u32::from(self.flags.has(Flags::SYN)) + u32::from(self.flags.has(Flags::FIN));
        super::length(self.payload.len()) + control
    }

    /// The sequence number behind it.
    pub(crate) fn end(&self) -> Seq {
        self.seq + self.len()
    }

    fn options(&self) -> impl Iterator<Item = TcpOption<'a>> {
        let mut rest = self.options;
        core::iter::from_fn(move || {
            let (behind, option) = TcpOption::parse(rest).ok()?;
            rest = behind;
            (option != TcpOption::EndOfList).then_some(option)
        })
    }

    pub(crate) fn timestamp(&self) -> Option<Timestamp> {
        if let Some((start, rest)) = self.options.split_first_chunk()
            && *start == TIMESTAMP_START
            && let Some((value, rest)) = rest.split_first_chunk()
            && let Some(echo) = rest.first_chunk()
        {
            let (value, echo) = (u32::from_be_bytes(*value), u32::from_be_bytes(*echo));
            return Some(Timestamp { value, echo });
        }
        self.options().find_map(|option| match option {
            TcpOption::TimeStamp { tsval: value, tsecr: echo } => Some(Timestamp { value, echo }),
            _ => None,
        })
    }

    /// The blocks that were received out of order (RFC 2018).
    pub(crate) fn sack_blocks(&self) -> impl Iterator<Item = (Seq, Seq)> {
        let blocks = self.options().find_map(|option| match option {
            TcpOption::SackRange(blocks) => Some(blocks),
            _ => None,
        });
        blocks.into_iter().flatten().flatten().map(|(start, end)| (Seq(start), Seq(end)))
    }

    /// Whether there is more than a timestamp, as most segments have it.
    pub(crate) fn may_have_blocks(&self) -> bool {
        !self.options.is_empty()
            && (self.options.len() > 12 || self.options[..4] != TIMESTAMP_START)
    }

    pub(crate) fn syn_options(&self) -> SynOptions {
        let mut syn = SynOptions::default();
        for option in self.options() {
            match option {
                TcpOption::MaxSegmentSize(mss) => syn.mss = Some(mss),
                TcpOption::WindowScale(shift) => {
                    syn.window_shift = Some(shift.min(WINDOW_SHIFT_MAX));
                }
                TcpOption::SackPermitted => syn.permits_sack = true,
                TcpOption::TimeStamp { tsval, .. } => syn.timestamp = Some(tsval),
                _ => {}
            }
        }
        syn
    }
}

#[cfg(test)]
impl<'a> Segment<'a> {
    /// A segment for tests.
    pub(crate) fn of(seq: u32, ack: u32, flags: Flags, payload: &'a [u8]) -> Self {
        Self { seq: Seq(seq), ack: Seq(ack), flags, window: u16::MAX, options: &[], payload }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn bytes(options: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut header = [0, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0x12, 0, 5, 0, 0, 0, 0];
        header[12] = u8::try_from((20 + options.len()) / 4).unwrap() << 4;
        [&header, options, payload].concat()
    }

    #[test]
    fn the_options_of_a_syn_are_found_in_any_order() {
        let options = [4, 2, 3, 3, 20, 1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 0, 2, 4, 5, 0xb4, 0, 9, 9];
        let bytes = bytes(&options, b"");
        let (source, destination, segment) = Segment::parse(&bytes).unwrap();
        assert_eq!((source, destination, segment.len()), (1, 2, 1));
        let expected = SynOptions {
            mss: Some(1460),
            window_shift: Some(WINDOW_SHIFT_MAX),
            permits_sack: true,
            timestamp: Some(7),
        };
        assert_eq!(segment.syn_options(), expected);
    }

    #[test]
    fn the_usual_timestamp_is_read_as_any_other() {
        let usual = [1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 8];
        let other = [8, 10, 0, 0, 0, 7, 0, 0, 0, 8, 1, 1];
        for options in [usual, other] {
            let bytes = bytes(&options, b"x");
            let timestamp = Segment::parse(&bytes).unwrap().2.timestamp();
            assert_eq!(timestamp, Some(Timestamp { value: 7, echo: 8 }));
        }
    }

    #[test]
    fn broken_options_end_the_list() {
        for options in [[3, 0, 0, 0], [3, 9, 0, 0], [2, 3, 0, 0], [8, 1, 0, 0]] {
            let bytes = bytes(&options, b"");
            let segment = Segment::parse(&bytes).unwrap().2;
            assert_eq!(segment.syn_options(), SynOptions::default());
            assert_eq!(segment.sack_blocks().count(), 0);
        }
    }
}
