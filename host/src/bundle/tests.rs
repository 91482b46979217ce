//! Payloads, good and bad.
use super::*;
use proptest::prelude::*;

fn tag(name: &str) -> Tag {
    let mut tag = Tag::default();
    tag[..name.len()].copy_from_slice(name.as_bytes());
    tag
}

fn bundle() -> Bundle<'static> {
    Bundle {
        image: b"an image",
        config: b"listen = 80\n",
        arguments: vec!["a".to_owned(), String::new(), "b \u{e9}".to_owned()],
        disks: vec![tag("site"), tag("sixteen-bytes-ok")],
        is_own_disk: true,
        file_len: 1 << 40,
        ipv4: Ipv4::new([10, 0, 2, 15], 24, [10, 0, 2, 2], [0; 4]),
        ipv6: Ipv6Config { address: [0xfd; 16], mode: 1, prefix_len: 64, ..Ipv6Config::default() },
        watchdog_seconds: 10,
    }
}

/// A payload with one field changed and the checksum right.
fn changed(change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let mut bytes = bundle().encode().unwrap();
    let (start, rest) = bytes.split_at_mut(size_of::<Header>());
    let mut header = Header::read_from_bytes(start).unwrap();
    change(&mut header);
    header.checksum = checksum(header, rest);
    start.copy_from_slice(header.as_bytes());
    bytes
}

#[test]
fn a_bundle_survives_the_round_trip() {
    let bytes = bundle().encode().unwrap();
    assert_eq!(Bundle::parse(&bytes), Ok(bundle()));
    let with_more_behind = [&bytes[..], &[0xff; 5000]].concat();
    assert_eq!(Bundle::parse(&with_more_behind), Ok(bundle()));
}

#[test]
fn the_checksum_is_the_usual_one() {
    // The check value of CRC-32/ISO-HDLC.
    assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
    let mut bytes = bundle().encode().unwrap();
    let stored = u32::from_le_bytes(bytes[12..16].try_into().unwrap());
    bytes[12..16].fill(0);
    assert_eq!(crc32fast::hash(&bytes), stored);
}

#[test]
fn what_is_no_bundle_is_missing() {
    for bytes in [&b""[..], b"PVBUNDL", &[0; 4096], b"\x7fELF and more"] {
        assert_eq!(Bundle::parse(bytes), Err(BundleError::Missing));
    }
}

#[test]
fn every_truncation_is_told() {
    let bytes = bundle().encode().unwrap();
    for have in 8..bytes.len() {
        let error = Bundle::parse(&bytes[..have]).unwrap_err();
        let need = if have < 296 { 296 } else { bytes.len() as u64 };
        assert_eq!(error, BundleError::Truncated { have: have as u64, need });
    }
    let error = Bundle::parse(&bytes[..310]).unwrap_err();
    assert_eq!(error.to_string(), format!("the bundle is truncated: 310 of {} bytes", bytes.len()));
}

#[test]
fn every_flipped_bit_is_told() {
    let bytes = bundle().encode().unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Bundle::parse(&bytes).is_err(), "bit {bit}");
    }
}

#[test]
fn each_rule_refuses() {
    assert_eq!(Bundle::parse(&changed(|_| ())), Ok(bundle()));
    let check = |change: fn(&mut Header), expect: BundleError| {
        assert_eq!(Bundle::parse(&changed(change)), Err(expect));
    };
    let malformed = BundleError::Malformed;
    let outside = malformed("a part lies outside");
    let ipv4 = malformed("the addresses of the guest");
    check(|h| h.magic += 1, BundleError::Missing);
    check(|h| h.version = 1, BundleError::Version(1));
    check(|h| h.len = 295, BundleError::Damaged);
    check(|h| h.len = u64::MAX, BundleError::Truncated { have: 324, need: u64::MAX });
    check(|h| h.file_len = 100, malformed("it is longer than the file it lies in"));
    check(|h| h.image.offset = u64::MAX, outside);
    check(|h| h.image.len = u64::MAX, outside);
    check(|h| h.config.len += 10, outside);
    check(|h| h.config.offset += 10_000, outside);
    check(|h| h.arguments.len -= 1, MALFORMED_ARGUMENTS);
    check(|h| h.disk_count = 9, MALFORMED_DISKS);
    check(|h| h.disk_count = 0, MALFORMED_DISKS);
    check(|h| h.disk_count = 1, MALFORMED_DISKS);
    check(|h| h.disks[0] = [0; 16], MALFORMED_DISKS);
    check(|h| h.disks[0][0] = 0xff, MALFORMED_DISKS);
    check(|h| h.disks[0][0] = b'\n', MALFORMED_DISKS);
    check(|h| h.disks[0][10] = b'x', MALFORMED_DISKS);
    check(|h| h.is_own_disk = 2, MALFORMED_FLAG);
    check(|h| h.reserved = 1, malformed("a reserved field is not zero"));
    check(|h| h.ipv4.reserved[2] = 1, malformed("a reserved field is not zero"));
    check(|h| h.ipv4.prefix_len = 33, ipv4);
    check(|h| h.ipv4.address = [0; 4], ipv4);
    let ipv6 = malformed("the IPv6 addresses of the guest");
    check(|h| h.ipv6.reserved[5] = 1, malformed("a reserved field is not zero"));
    check(|h| h.ipv6.prefix_len = 129, ipv6);
    check(|h| h.ipv6.address = [0; 16], ipv6);
    check(|h| h.ipv6.mode = 2, ipv6);
    check(|h| h.ipv6.mode = 3, ipv6);
}

#[test]
fn an_own_disk_needs_a_name() {
    let nameless = Bundle { disks: Vec::new(), ..bundle() };
    assert_eq!(nameless.encode(), Err(MALFORMED_DISKS));
    let diskless = Bundle { is_own_disk: false, ..nameless };
    assert_eq!(Bundle::parse(&diskless.encode().unwrap()), Ok(diskless));
}

#[test]
fn what_cannot_be_written_down_is_refused() {
    let many = Bundle { disks: vec![tag("d"); 9], ..bundle() };
    assert_eq!(many.encode(), Err(MALFORMED_DISKS));
    let nul = Bundle { arguments: vec!["a\0b".to_owned()], ..bundle() };
    assert_eq!(nul.encode(), Err(MALFORMED_ARGUMENTS));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        patches in proptest::collection::vec((0_usize..400, any::<u8>()), 0..8),
        keep_checksum in any::<bool>(),
        len in 0_usize..400,
    ) {
        let mut bytes = bundle().encode().unwrap();
        for (at, value) in patches {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if !keep_checksum {
            let header = Header::read_from_bytes(&bytes[..296]).unwrap();
            let checksum = checksum(header, &bytes[296..]);
            bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        }
        bytes.truncate(len);
        if let Ok(bundle) = Bundle::parse(&bytes) {
            let again = bundle.encode().unwrap_or_else(|_| bytes.clone());
            prop_assert_eq!(Bundle::parse(&again), Ok(bundle));
        }
    }
}
