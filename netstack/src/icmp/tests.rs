use super::*;
use proptest::prelude::*;

const OWN4: IpAddress = IpAddress::v4(10, 0, 0, 1);
const PEER4: IpAddress = IpAddress::v4(10, 9, 9, 9);
const ROUTER4: IpAddress = IpAddress::v4(10, 0, 0, 254);
const OWN6: IpAddress = IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const PEER6: IpAddress = IpAddress::v6(0xfd00, 9, 0, 0, 0, 0, 0, 9);
const ROUTER6: IpAddress = IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, 0xfe);

/// The packet of ours that an error is about: 1000 bytes of TCP.
fn sent(ends: [IpAddress; 2]) -> Vec<u8> {
    let mut packet = alloc::vec![0; ip::header_len(ends[0]) + 1000];
    let start = ip::emit_header(&mut packet, ends, (IpProtocol::Tcp, 64), 1000).unwrap();
    packet[start..start + 8].copy_from_slice(&[0, 80, 0x12, 0x34, 1, 2, 3, 4]);
    packet
}

fn error(head: [u8; 8], quoted: &[u8]) -> Vec<u8> {
    [&head[..], quoted].concat()
}

fn read4(head: [u8; 8], quoted: &[u8], to: IpAddress) -> Option<Report> {
    let bytes = packet([ROUTER4, to], 64, error(head, quoted)).unwrap();
    report_of_v4(&ip::parse_ipv4(&bytes).unwrap())
}

fn read6(head: [u8; 8], quoted: &[u8], to: IpAddress) -> Option<Report> {
    let bytes = packet([ROUTER6, to], 64, error(head, quoted)).unwrap();
    report_of_v6(&ip::parse_ipv6(&bytes).unwrap())
}

#[test]
fn errors_name_the_segment_that_they_are_about() {
    let check = |ends: [IpAddress; 2], found: Option<Report>, error| {
        let flow = Flow::new((ends[0], 80), (ends[1], 0x1234));
        assert_eq!(found, Some(Report { flow, sequence: 0x0102_0304, error }));
    };
    let four = [OWN4, PEER4];
    let quoted = &sent(four)[..28];
    let found = |head| read4(head, quoted, OWN4);
    check(four, found([3, 4, 0, 0, 0, 0, 5, 0x78]), IcmpError::PacketTooBig { mtu: 1400 });
    check(four, found([3, 4, 0, 0, 0, 0, 0, 68]), IcmpError::PacketTooBig { mtu: 576 });
    // A router of before RFC 1191 does not say what fits.
    check(four, found([3, 4, 0, 0, 0, 0, 0, 0]), IcmpError::PacketTooBig { mtu: 1006 });
    check(four, found([3, 3, 0, 0, 0, 0, 0, 0]), IcmpError::Refused);
    check(four, found([3, 1, 0, 0, 0, 0, 0, 0]), IcmpError::Unreachable);
    check(four, found([11, 0, 0, 0, 0, 0, 0, 0]), IcmpError::Unreachable);
    let six = [OWN6, PEER6];
    let quoted = &sent(six)[..48];
    let found = |head| read6(head, quoted, OWN6);
    check(six, found([2, 0, 0, 0, 0, 0, 5, 0x78]), IcmpError::PacketTooBig { mtu: 1400 });
    check(six, found([2, 0, 0, 0, 0, 0, 0, 68]), IcmpError::PacketTooBig { mtu: 1280 });
    check(six, found([1, 4, 0, 0, 0, 0, 0, 0]), IcmpError::Refused);
    check(six, found([4, 1, 0, 0, 0, 0, 0, 6]), IcmpError::Refused);
    check(six, found([1, 0, 0, 0, 0, 0, 0, 0]), IcmpError::Unreachable);
    check(six, found([3, 0, 0, 0, 0, 0, 0, 0]), IcmpError::Unreachable);
}

#[test]
fn errors_about_what_is_not_ours_are_not_believed() {
    let unreachable = [3, 1, 0, 0, 0, 0, 0, 0];
    let quoted = sent([OWN4, PEER4]);
    assert!(read4(unreachable, &quoted, OWN4).is_some());
    // It is told to somebody else than the sender.
    assert_eq!(read4(unreachable, &quoted, PEER4), None);
    for len in 0..28 {
        assert_eq!(read4(unreachable, &quoted[..len], OWN4), None, "{len}");
    }
    let change = |at: usize, value: u8| {
        let mut quoted = quoted.clone();
        quoted[at] = value;
        read4(unreachable, &quoted, OWN4)
    };
    assert_eq!(
        (change(0, 0x65), change(0, 0x44), change(7, 1), change(9, 17)),
        (None, None, None, None)
    );
    assert_eq!(read4([5, 1, 0, 0, 0, 0, 0, 0], &quoted, OWN4), None);

    let unreachable = [1, 0, 0, 0, 0, 0, 0, 0];
    let quoted = sent([OWN6, PEER6]);
    assert!(read6(unreachable, &quoted, OWN6).is_some());
    assert_eq!(read6(unreachable, &quoted, PEER6), None);
    for len in 0..48 {
        assert_eq!(read6(unreachable, &quoted[..len], OWN6), None, "{len}");
    }
    let change = |at: usize, value: u8| {
        let mut quoted = quoted.clone();
        quoted[at] = value;
        read6(unreachable, &quoted, OWN6)
    };
    assert_eq!((change(0, 0x45), change(6, 17), change(6, 0)), (None, None, None));
    assert_eq!(read6([137, 0, 0, 0, 0, 0, 0, 0], &quoted, OWN6), None);
}

#[test]
fn the_rate_of_errors_is_bounded() {
    let mut budget = ErrorBudget::new(Instant::ZERO);
    let sent = |budget: &mut ErrorBudget, ms| {
        (0..1000).filter(|_| budget.take(Instant::from_millis(ms))).count()
    };
    assert_eq!(sent(&mut budget, 0), 64);
    assert_eq!(sent(&mut budget, 9), 0);
    assert_eq!(sent(&mut budget, 19), 1);
    assert_eq!(sent(&mut budget, 100_000), 64);
    // Questions that come all the time do not keep it from filling up.
    let steady = (100_000..101_000).map(|ms| usize::from(budget.take(Instant::from_millis(ms))));
    assert_eq!(steady.sum::<usize>(), 99);
}

proptest! {
    #[test]
    fn any_message_is_read_or_dropped(
        head in any::<[u8; 8]>(),
        quoted in prop::collection::vec(any::<u8>(), 0..80),
        version in prop_oneof![Just(0x45u8), Just(0x4f), Just(0x60), any::<u8>()],
    ) {
        let mut quoted = quoted;
        if let Some(first) = quoted.first_mut() {
            *first = version;
        }
        for kind in [head[0], 1, 2, 3, 4, 11] {
            let head = [kind, head[1], 0, 0, head[4], head[5], head[6], head[7]];
            for report in [read4(head, &quoted, OWN4), read6(head, &quoted, OWN6)] {
                if let Some(IcmpError::PacketTooBig { mtu }) = report.map(|r| r.error) {
                    prop_assert!(mtu >= MTU_MIN);
                }
            }
        }
    }
}
