use super::*;
use proptest::prelude::*;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const OWN: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe12, 0x3456);
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const PREFIX: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 2, 3, 0, 0, 0, 0);
const FORMED: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 2, 3, 0x5054, 0xff, 0xfe12, 0x3456);
const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const LEASE: Lease6 = Lease6 {
    address: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
    prefix_len: 64,
    gateway: Some(ROUTER),
    dns: None,
};

fn at(s: i64) -> Instant {
    Instant::from_secs(s)
}

fn automatic() -> Ipv6 {
    Ipv6::new(Addressing6::Automatic, MAC, at(0))
}

fn prefix(valid: u32, preferred: u32) -> Prefix {
    let (is_on_link, is_autonomous) = (true, true);
    Prefix { prefix: PREFIX, len: 64, is_on_link, is_autonomous, valid, preferred }
}

fn advertise(ipv6: &mut Ipv6, prefixes: &[Prefix], now: i64) {
    let prefixes = prefixes.to_vec();
    let advertisement =
        RouterAdvertisement { lifetime: 1800, prefixes, ..RouterAdvertisement::default() };
    ipv6.advertised(ROUTER, &advertisement, 1500, at(now));
}

/// Does everything that is due up to `end`; gives what was done, with its second.
fn pass(ipv6: &mut Ipv6, end: i64) -> Vec<(i64, Errand)> {
    let mut done = Vec::new();
    while let Some(due) = ipv6.next_deadline().filter(|due| *due <= at(end)) {
        ipv6.expire(due);
        while let Some(errand) = ipv6.errand(due) {
            done.push((due.secs(), errand));
            ipv6.done(errand, due);
        }
        assert!(ipv6.next_deadline().is_none_or(|next| next > due), "time stands still");
    }
    done
}

#[test]
fn without_ipv6_nothing_happens() {
    let mut ipv6 = Ipv6::new(Addressing6::Off, MAC, at(0));
    advertise(&mut ipv6, &[prefix(600, 300)], 1);
    assert_eq!((ipv6.addresses().count(), ipv6.next_deadline()), (0, None));
    assert_eq!((ipv6.source_for(ROUTER), ipv6.next_hop(ROUTER)), (None, None));
    assert!(!ipv6.is_member(ALL_NODES));
}

#[test]
fn an_address_is_probed_for_and_then_ours() {
    let mut ipv6 = Ipv6::new(Addressing6::Static(LEASE), MAC, at(0));
    assert!(ipv6.addresses().eq([OWN, LEASE.address]));
    assert!(ipv6.is_tentative(OWN) && ipv6.is_tentative(LEASE.address));
    let expect = [
        (0, Errand::ReportGroups),
        (0, Errand::Probe(OWN)),
        (0, Errand::Probe(LEASE.address)),
        (1, Errand::ReportGroups),
    ];
    assert_eq!(pass(&mut ipv6, 1000), expect);
    assert!(!ipv6.is_tentative(OWN) && !ipv6.is_tentative(LEASE.address));
    assert_eq!(ipv6.next_deadline(), None);
}

#[test]
fn a_conflict_counts_while_the_address_is_probed_for() {
    let mut ipv6 = Ipv6::new(Addressing6::Static(LEASE), MAC, at(0));
    assert!(!ipv6.conflict(ROUTER));
    assert!(ipv6.conflict(LEASE.address));
    assert!(ipv6.addresses().eq([OWN]));
    assert_eq!(ipv6.global(), None);
    pass(&mut ipv6, 10);
    assert!(!ipv6.conflict(OWN));
    assert!(ipv6.is_own(OWN));
}

#[test]
fn an_address_that_another_has_is_not_formed_again() {
    let mut ipv6 = automatic();
    advertise(&mut ipv6, &[prefix(600, 300)], 0);
    assert!(ipv6.is_own(FORMED));
    assert!(ipv6.conflict(FORMED));
    advertise(&mut ipv6, &[prefix(600, 300)], 1);
    assert!(!ipv6.is_own(FORMED));
}

#[test]
fn routers_are_asked_for_three_times() {
    let mut ipv6 = automatic();
    let asked = |done: Vec<(i64, Errand)>| -> Vec<i64> {
        done.into_iter().filter(|(_, e)| *e == Errand::SolicitRouters).map(|(at, _)| at).collect()
    };
    assert_eq!(asked(pass(&mut ipv6, 11)), [0, 4, 8]);
    assert!(!ipv6.is_settled());
    pass(&mut ipv6, 12);
    assert!(ipv6.is_settled());
    let mut ipv6 = automatic();
    pass(&mut ipv6, 1);
    advertise(&mut ipv6, &[], 1);
    assert!(ipv6.is_settled() && asked(pass(&mut ipv6, 100)).is_empty());
}

#[test]
fn a_prefix_gives_an_address_until_it_runs_out() {
    let mut ipv6 = automatic();
    assert_eq!((ipv6.source_for(FAR), ipv6.next_hop(FAR)), (None, None));
    advertise(&mut ipv6, &[prefix(600, 300)], 0);
    assert_eq!((ipv6.source_for(FAR), ipv6.next_hop(FAR)), (Some(FORMED), Some(ROUTER)));
    assert_eq!(ipv6.next_hop(LEASE.address), Some(ROUTER));
    assert_eq!((ipv6.next_hop(FORMED), ipv6.source_for(ROUTER)), (Some(FORMED), Some(OWN)));
    pass(&mut ipv6, 599);
    assert_eq!(ipv6.global(), Some(FORMED));
    pass(&mut ipv6, 600);
    assert_eq!((ipv6.global(), ipv6.next_hop(FORMED)), (None, Some(ROUTER)));
    pass(&mut ipv6, 1800);
    assert_eq!(ipv6.next_hop(FAR), None);
}

#[test]
fn a_deprecated_address_is_the_last_choice() {
    let mut ipv6 = automatic();
    let other = Prefix { prefix: Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 0), ..prefix(9000, 9000) };
    advertise(&mut ipv6, &[prefix(9000, 10), other], 0);
    let near = Ipv6Addr::new(0xfd00, 1, 2, 4, 0, 0, 0, 1);
    assert_eq!(ipv6.source_for(near), Some(FORMED));
    pass(&mut ipv6, 10);
    assert_ne!(ipv6.source_for(near), Some(FORMED));
    assert!(ipv6.is_own(FORMED));
}

#[test]
fn no_advertisement_ends_an_address_within_two_hours() {
    let mut ipv6 = automatic();
    let valid_until =
        |ipv6: &Ipv6| ipv6.addresses.iter().find(|a| a.address == FORMED).unwrap().valid_until;
    advertise(&mut ipv6, &[prefix(u32::MAX, u32::MAX)], 0);
    assert_eq!(valid_until(&ipv6), None);
    advertise(&mut ipv6, &[prefix(0, 0)], 0);
    assert_eq!(valid_until(&ipv6), Some(at(7200)));
    advertise(&mut ipv6, &[prefix(1, 1)], 100);
    assert_eq!(valid_until(&ipv6), Some(at(7200)));
    advertise(&mut ipv6, &[prefix(8000, 1)], 100);
    assert_eq!(valid_until(&ipv6), Some(at(8100)));
    // Longer than what is left is always taken.
    advertise(&mut ipv6, &[prefix(100, 1)], 8050);
    assert_eq!(valid_until(&ipv6), Some(at(8100)));
}

#[test]
fn only_prefixes_of_64_bits_of_the_outside_make_addresses() {
    let mut ipv6 = automatic();
    let link_local = Prefix { prefix: ROUTER, ..prefix(600, 600) };
    let group = Prefix { prefix: ALL_NODES, ..prefix(600, 600) };
    let long = Prefix { len: 80, ..prefix(600, 600) };
    advertise(&mut ipv6, &[link_local, group, long, prefix(100, 200)], 0);
    assert!(ipv6.addresses().eq([OWN]));
}

#[test]
fn the_operators_addresses_are_not_for_routers_to_change() {
    let mut ipv6 = Ipv6::new(Addressing6::Static(LEASE), MAC, at(0));
    advertise(&mut ipv6, &[prefix(600, 300)], 1);
    assert!(!ipv6.is_own(FORMED));
    assert_eq!((ipv6.next_hop(FAR), ipv6.mtu()), (Some(ROUTER), None));
}

#[test]
fn a_link_limit_is_taken_within_reason() {
    let mut ipv6 = automatic();
    for (mtu, expect) in [(1279, None), (1501, None), (1400, Some(1400)), (9000, Some(1400))] {
        let mtu = Some(mtu);
        let advertisement = RouterAdvertisement { mtu, ..RouterAdvertisement::default() };
        ipv6.advertised(ROUTER, &advertisement, 1500, at(0));
        assert_eq!(ipv6.mtu(), expect);
    }
}

#[test]
fn a_router_that_does_not_answer_gives_way() {
    let mut ipv6 = automatic();
    let second = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7);
    advertise(&mut ipv6, &[], 0);
    let lifetime = RouterAdvertisement { lifetime: 60, ..RouterAdvertisement::default() };
    ipv6.advertised(second, &lifetime, 1500, at(0));
    assert_eq!(ipv6.next_hop(FAR), Some(ROUTER));
    ipv6.neighbor_lost(ROUTER);
    assert_eq!(ipv6.next_hop(FAR), Some(second));
    ipv6.advertised(second, &RouterAdvertisement::default(), 1500, at(1));
    assert_eq!(ipv6.next_hop(FAR), Some(ROUTER));
}

#[test]
fn a_query_is_answered_once() {
    let mut ipv6 = automatic();
    pass(&mut ipv6, 100);
    for _ in 0..3 {
        ipv6.queried(Duration::from_secs(2), at(100));
    }
    assert_eq!(pass(&mut ipv6, 200), [(102, Errand::ReportGroups)]);
}

fn any_prefix() -> impl Strategy<Value = Prefix> {
    let lifetime = || prop_oneof![Just(0u32), Just(1), Just(u32::MAX), any::<u32>()];
    (any::<u128>(), 0u8..=128, any::<bool>(), any::<bool>(), lifetime(), lifetime()).prop_map(
        |(bits, len, is_on_link, is_autonomous, valid, preferred)| {
            let prefix = Ipv6Addr::from_bits(bits);
            Prefix { prefix, len, is_on_link, is_autonomous, valid, preferred }
        },
    )
}

proptest! {
    #[test]
    fn a_flood_of_routers_and_prefixes_is_bounded(
        steps in prop::collection::vec(
            (any::<u64>(), any::<u16>(), any::<Option<u32>>(),
             prop::collection::vec(any_prefix(), 0..8), 0i64..4000), 1..100),
    ) {
        let mut ipv6 = automatic();
        let mut now = 0;
        for (router, lifetime, mtu, prefixes, seconds) in steps {
            let router = from_prefix(LINK_LOCAL, router);
            let dns = Some((router, lifetime.into()));
            let advertisement =
                RouterAdvertisement { lifetime, mac: None, mtu, prefixes, dns };
            ipv6.advertised(router, &advertisement, 1500, at(now));
            now += seconds;
            pass(&mut ipv6, now);
            prop_assert!(ipv6.addresses.len() <= ADDRESSES_MAX);
            prop_assert!(ipv6.prefixes.len() <= PREFIXES_MAX);
            prop_assert!(ipv6.routers.len() <= ROUTERS_MAX);
            prop_assert!(ipv6.mtu().is_none_or(|mtu| (MTU6_MIN..=1500).contains(&mtu)));
            prop_assert!(ipv6.addresses().all(is_unicast) && ipv6.is_own(OWN));
        }
    }
}
