//! Messages of DNS (RFC 1035, 4): questions as they are asked, and answers with their addresses.
use alloc::vec::Vec;
use core::net::IpAddr;

/// Bytes of a message's header.
const HEADER_LEN: usize = 12;

/// Most bytes of a name and of one of its labels (RFC 1035, 2.3.4).
const NAME_LEN_MAX: usize = 255;
const LABEL_LEN_MAX: usize = 63;

/// Most addresses that are taken from one answer.
const ADDRESSES_MAX: usize = 8;

/// The class of the internet.
const CLASS_IN: u16 = 1;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    /// The type of record (RFC 1035, 3.2.2; RFC 3596, 2.1).
    fn record(self) -> u16 {
        match self {
            Self::Ipv4 => 1,
            Self::Ipv6 => 28,
        }
    }

    fn address(self, data: &[u8]) -> Option<IpAddr> {
        match self {
            Self::Ipv4 => <[u8; 4]>::try_from(data).ok().map(IpAddr::from),
            Self::Ipv6 => <[u8; 16]>::try_from(data).ok().map(IpAddr::from),
        }
    }
}

/// A name as messages have it. `None` if it is none: empty, with empty or long labels.
pub(super) fn encode_name(name: &str) -> Option<Vec<u8>> {
    let mut encoded = Vec::new();
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        let len = u8::try_from(label.len()).ok()?;
        if label.is_empty() || label.len() > LABEL_LEN_MAX {
            return None;
        }
        encoded.push(len);
        encoded.extend(label.bytes());
    }
    encoded.push(0);
    (encoded.len() <= NAME_LEN_MAX).then_some(encoded)
}

/// A question, with recursion desired.
pub(super) fn question(id: u16, name: &[u8], family: Family) -> Vec<u8> {
    let mut message = Vec::from(id.to_be_bytes());
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend(name);
    message.extend(family.record().to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    message
}

/// The addresses in the answer to [`question`]; none if the server knows none. `None` for what is not
/// that answer.
///
/// Every address in the answer is taken, whatever alias it belongs to: the server follows aliases.
pub(super) fn answer(bytes: &[u8], id: u16, name: &[u8], family: Family) -> Option<Vec<IpAddr>> {
    let header = bytes.get(..HEADER_LEN)?;
    let half = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let is_answer = header[2] & 0xf8 == 0x80;
    if half(0) != id || !is_answer || half(4) != 1 {
        return None;
    }
    let asked = question(id, name, family);
    let question_len = asked.len() - HEADER_LEN;
    let mut rest = &bytes[HEADER_LEN..];
    let repeated = rest.get(..question_len)?;
    if !repeated.eq_ignore_ascii_case(&asked[HEADER_LEN..]) {
        return None;
    }
    rest = &rest[question_len..];
    let mut addresses = Vec::new();
    for _ in 0..half(6) {
        // A message that was cut short still has what is before the cut.
        let Some((record, behind)) = split_record(rest) else { break };
        rest = behind;
        if record.kind == family.record() && record.class == CLASS_IN {
            addresses.extend(family.address(record.data));
        }
        if addresses.len() == ADDRESSES_MAX {
            break;
        }
    }
    Some(addresses)
}

struct Record<'a> {
    kind: u16,
    class: u16,
    data: &'a [u8],
}

/// The record at the front, and what is behind it.
fn split_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let bytes = bytes.get(name_len(bytes)?..)?;
    let (head, rest) = bytes.split_first_chunk::<10>()?;
    let len = usize::from(u16::from_be_bytes([head[8], head[9]]));
    let (data, behind) = rest.split_at_checked(len)?;
    let kind = u16::from_be_bytes([head[0], head[1]]);
    let class = u16::from_be_bytes([head[2], head[3]]);
    Some((Record { kind, class, data }, behind))
}

/// Bytes of the name at the front: up to its end, or to a pointer to the rest (RFC 1035, 4.1.4).
fn name_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            len @ 1..=63 => at += 1 + usize::from(len),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use proptest::prelude::*;

    const ID: u16 = 0x1234;

    fn name() -> Vec<u8> {
        encode_name("www.example.org").unwrap()
    }

    /// An answer with these records behind the question.
    fn message(family: Family, records: &[&[u8]]) -> Vec<u8> {
        let mut message = question(ID, &name(), family);
        message[2..4].copy_from_slice(&[0x81, 0x80]);
        message[7] = u8::try_from(records.len()).unwrap();
        message.extend(records.concat());
        message
    }

    fn record(kind: u8, data: &[u8]) -> Vec<u8> {
        let head = [0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, u8::try_from(data.len()).unwrap()];
        [&head[..], data].concat()
    }

    #[test]
    fn names_have_labels_of_one_to_63_bytes() {
        assert_eq!(encode_name("a.bc").unwrap(), b"\x01a\x02bc\0");
        assert_eq!(encode_name("a.bc."), encode_name("a.bc"));
        let long = "x".repeat(63);
        assert!(encode_name(&long).is_some());
        assert_eq!(encode_name(&(long.clone() + "x")), None);
        let longest = [&long[..]; 4].join(".");
        assert_eq!(encode_name(&longest), None);
        assert!(encode_name(&longest[2..]).is_some());
        for bad in ["", ".", "a..b", ".a", "a.."] {
            assert_eq!(encode_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn addresses_are_found_behind_aliases() {
        let alias = record(5, b"\x03cdn\xc0\x10");
        let [one, two] = [record(1, &[1, 2, 3, 4]), record(1, &[5, 6, 7, 8])];
        let bytes = message(Family::Ipv4, &[&alias, &one, &two]);
        let expect = [Ipv4Addr::new(1, 2, 3, 4), Ipv4Addr::new(5, 6, 7, 8)].map(IpAddr::from);
        assert_eq!(answer(&bytes, ID, &name(), Family::Ipv4).unwrap(), expect);
        let six = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9);
        let bytes = message(Family::Ipv6, &[&one, &record(28, &six.octets())]);
        assert_eq!(answer(&bytes, ID, &name(), Family::Ipv6).unwrap(), [IpAddr::V6(six)]);
    }

    #[test]
    fn a_name_without_addresses_is_an_answer() {
        let mut bytes = message(Family::Ipv4, &[]);
        bytes[3] |= 3;
        assert_eq!(answer(&bytes, ID, &name(), Family::Ipv4), Some(Vec::new()));
    }

    #[test]
    fn answers_to_other_questions_are_not_taken() {
        let bytes = message(Family::Ipv4, &[&record(1, &[1, 2, 3, 4])]);
        assert_eq!(answer(&bytes, ID + 1, &name(), Family::Ipv4), None);
        assert_eq!(answer(&bytes, ID, &name(), Family::Ipv6), None);
        assert_eq!(
            answer(&bytes, ID, &encode_name("wwx.example.org").unwrap(), Family::Ipv4),
            None
        );
        let asked = question(ID, &name(), Family::Ipv4);
        assert_eq!(answer(&asked, ID, &name(), Family::Ipv4), None, "a question");
        for len in 0..asked.len() {
            assert_eq!(answer(&bytes[..len], ID, &name(), Family::Ipv4), None);
        }
        assert_eq!(answer(&bytes[..asked.len()], ID, &name(), Family::Ipv4), Some(Vec::new()));
    }

    #[test]
    fn the_addresses_of_one_answer_are_bounded() {
        let one = record(1, &[1, 2, 3, 4]);
        let bytes = message(Family::Ipv4, &[&one[..]; 100]);
        let found = answer(&bytes, ID, &name(), Family::Ipv4).unwrap();
        assert_eq!(found.len(), ADDRESSES_MAX);
    }

    proptest! {
        #[test]
        fn any_records_are_read_or_dropped(records in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = message(Family::Ipv4, &[&records]);
            bytes[7] = 255;
            prop_assert!(answer(&bytes, ID, &name(), Family::Ipv4).is_some());
        }

        #[test]
        fn any_bytes_are_read_or_dropped(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = answer(&bytes, ID, &name(), Family::Ipv6);
        }
    }
}
