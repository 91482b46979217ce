//! What lies between the ends: long ways, lines that lose in one direction, routers with small links.
use crate::hostile::{checksum, frame_between};
use crate::link::{Faults, Line};
use crate::world::{BUFFERS, server_config};
use crate::world::{CLIENT, CLIENT_MAC, SERVER_MAC, World, client_config, receive, send};
use core::net::Ipv4Addr;
use paravane_netstack::{BufferLimits, Config, ConnectionId, Duration, RxMeta};

const SECOND: Duration = Duration::from_secs(1);

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31) ^ (i >> 8)) as u8).collect()
}

fn open(world: &mut World) -> (ConnectionId, ConnectionId) {
    let listener = world.server.listen(80, 16).unwrap();
    world.connected(listener, 80)
}

/// Sends `len` bytes from client to server, with `router` in between; how long that took.
fn upload(
    world: &mut World,
    (near, far): (ConnectionId, ConnectionId),
    len: usize,
    router: fn(&mut World),
) -> Duration {
    let data = pattern(len);
    let (mut sent, mut heard) = (0, Vec::new());
    let start = world.now;
    world.run_until(SECOND * 3600, |world| {
        router(world);
        sent += send(&mut world.client, near, &data[sent..]).unwrap();
        receive(&mut world.server, far, &mut heard).unwrap();
        heard.len() == len
    });
    assert!(heard == data);
    world.now - start
}

fn no_router(_world: &mut World) {}

/// Tells the client of each packet that was too big for the line to the server.
fn router(world: &mut World) {
    for frame in core::mem::take(&mut world.to_server.too_big) {
        let mtu = (world.to_server.path_mtu as u16).to_be_bytes();
        let mut message = [&[3, 4, 0, 0, 0, 0, mtu[0], mtu[1]], &frame[14..42]].concat();
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum);
        let told = frame_between([SERVER_MAC, CLIENT_MAC], [ROUTER, CLIENT], 1, &message);
        world.to_client.inject(told, RxMeta::default(), 0);
    }
}

/// A long way with room for much.
fn long_way() -> World {
    let buffers = BufferLimits { rx_max: 2 << 20, tx_max: 2 << 20, total: 64 << 20, ..BUFFERS };
    let adapt = |config| Config { buffers, ..config };
    let mut world =
        World::with(adapt(client_config()), adapt(server_config()), 1, Faults::default());
    (world.to_client.latency_us, world.to_server.latency_us) = (20_000, 20_000);
    world
}

#[test]
fn windows_grow_beyond_64_kib_on_a_long_way() {
    let mut world = long_way();
    let ends = open(&mut world);
    // Without larger windows, 16 MiB take 256 round trips of 40 ms.
    let time = upload(&mut world, ends, 16 << 20, no_router);
    assert!(time < SECOND * 2, "{time}");
}

#[test]
fn one_loss_on_a_long_way_is_repaired_without_a_timeout() {
    let mut world = long_way();
    let ends = open(&mut world);
    upload(&mut world, ends, 4 << 20, no_router);
    let before = upload(&mut world, ends, 1 << 20, no_router);
    world.to_server.lose_next = 1;
    let with_loss = upload(&mut world, ends, 1 << 20, no_router);
    assert!(world.to_server.lose_next == 0 && with_loss < before + Duration::from_millis(150));
}

#[test]
fn a_lost_tail_is_noticed_by_a_probe() {
    let mut world = long_way();
    let (near, far) = open(&mut world);
    upload(&mut world, (near, far), 100_000, no_router);
    world.run_for(SECOND);
    let start = world.now;
    send(&mut world.client, near, &[7; 10_000]).unwrap();
    // The first segments arrive; the last two do not.
    world.to_server.lose_after = Some(5);
    let mut heard = Vec::new();
    world.run_until(SECOND, |world| {
        receive(&mut world.server, far, &mut heard).unwrap();
        if world.now > start + Duration::from_millis(1) {
            world.to_server.lose_after = None;
        }
        heard.len() == 10_000
    });
    // One way, the probe after two round trips, its answer, the repair; a timeout is 200 ms or more.
    assert!(world.now - start < Duration::from_millis(190), "{}", world.now - start);
}

#[test]
fn lines_that_lose_in_one_direction() {
    for (up, down) in [(80, 0), (0, 200), (300, 0), (0, 500)] {
        let mut world = World::perfect();
        let ends = open(&mut world);
        world.to_server = Line::new(3, Faults { lost: up, ..Faults::default() });
        world.to_client = Line::new(5, Faults { lost: down, ..Faults::default() });
        upload(&mut world, ends, 300_000, no_router);
    }
}

#[test]
fn a_router_tells_how_large_packets_may_be() {
    for mtu in [1400, 1280, 600, 576] {
        let mut world = World::perfect();
        let ends = open(&mut world);
        world.to_server.path_mtu = mtu;
        let time = upload(&mut world, ends, 300_000, router);
        assert!(time < SECOND, "{mtu}: {time}");
    }
}

#[test]
fn a_router_that_says_nothing_is_found_out() {
    for mtu in [1300, 600] {
        let mut world = World::perfect();
        let ends = open(&mut world);
        world.to_server.path_mtu = mtu;
        let time = upload(&mut world, ends, 100_000, |world| world.to_server.too_big.clear());
        assert!(time < SECOND * 20, "{mtu}: {time}");
    }
}

/// Whoever is not on the path does not know the sequence numbers.
#[test]
fn a_forged_report_changes_nothing() {
    let mut world = World::perfect();
    let ends = open(&mut world);
    world.to_server.record = Some(Vec::new());
    upload(&mut world, ends, 100_000, no_router);
    let frames = world.to_server.record.take().unwrap();
    let (frame, _) = frames.iter().max_by_key(|(frame, _)| frame.len()).unwrap();
    world.to_server.path_mtu = 600;
    let mut quoted = frame.clone();
    quoted[14 + 20 + 4] ^= 0x40;
    world.to_server.too_big = vec![quoted, frame.clone()];
    router(&mut world);
    world.to_server.path_mtu = usize::MAX;
    world.run_for(SECOND);
    world.to_server.record = Some(Vec::new());
    upload(&mut world, ends, 100_000, no_router);
    let frames = world.to_server.record.take().unwrap();
    assert_eq!(frames.iter().map(|(frame, _)| frame.len()).max(), Some(14 + 1500));
}
