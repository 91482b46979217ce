//! Data arrives complete, in order and intact, whatever the link does.
use crate::link::{Faults, faults};
use crate::world::{SERVER, World, at, client_config, receive, send, server_config};
use core::net::SocketAddr;
use paravane_netstack::{Config, Duration, Offloads};
use proptest::prelude::*;

fn pattern(len: usize, salt: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31 + salt) ^ (i >> 8)) as u8).collect()
}

fn exchange(world: World, len: usize) {
    exchange_with(world, at(SERVER, 80), len);
}

/// Sends `len` bytes each way at once, then closes both directions; everything must be gone after.
pub(crate) fn exchange_with(mut world: World, server: SocketAddr, len: usize) {
    let listener = world.server.listen(server.port(), 16).unwrap();
    let (near, far) = world.connected_to(listener, server);
    let (up, down) = (pattern(len, 1), pattern(len, 2));
    let (mut up_sent, mut down_sent) = (0, 0);
    let (mut up_received, mut down_received) = (Vec::new(), Vec::new());
    world.run_until(Duration::from_secs(3600), |world| {
        if up_sent < len {
            up_sent += send(&mut world.client, near, &up[up_sent..]).unwrap();
            if up_sent == len {
                world.client.shutdown(near);
            }
        }
        if down_sent < len {
            down_sent += send(&mut world.server, far, &down[down_sent..]).unwrap();
            if down_sent == len {
                world.server.shutdown(far);
            }
        }
        let up_done = receive(&mut world.server, far, &mut up_received).unwrap();
        let down_done = receive(&mut world.client, near, &mut down_received).unwrap();
        up_done && down_done
    });
    assert!(up_received == up && down_received == down);
    world.client.release(near);
    world.server.release(far);
    world.run_for(Duration::from_secs(900));
    assert_eq!((world.client.buffers_used(), world.server.buffers_used()), (0, 0));
    assert_eq!((world.client.connection_count(), world.server.connection_count()), (0, 0));
}

pub(crate) fn offloading(config: Config) -> Config {
    Config {
        offloads: Offloads { tx_checksum: true, tx_segmentation: true, tx_segmentation6: true },
        ..config
    }
}

#[test]
fn over_a_perfect_link() {
    exchange(World::perfect(), 3_000_000);
}

#[test]
fn with_offloads() {
    let (client, server) = (offloading(client_config()), offloading(server_config()));
    exchange(World::with(client, server, 1, Faults::default()), 3_000_000);
}

#[test]
fn with_a_port_that_is_mostly_full() {
    let mut world = World::perfect();
    world.to_client.capacity = 2;
    world.to_server.capacity = 1;
    exchange(world, 100_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn over_links_with_faults(
        seed in any::<u64>(),
        faults in faults(),
        offload in any::<bool>(),
        len in 0usize..200_000,
    ) {
        let adapt = |config| if offload { offloading(config) } else { config };
        exchange(World::with(adapt(client_config()), adapt(server_config()), seed, faults), len);
    }
}

/// Both directions lose their tails at the same time. After that, both ends retransmit at once, and
/// acknowledgements have to be acceptable to an end that has received what is being repeated.
#[test]
fn when_both_ends_retransmit_at_once() {
    let faults = Faults { lost: 47, duplicated: 12, corrupted: 0, delayed: 111 };
    let (client, server) = (offloading(client_config()), offloading(server_config()));
    exchange(World::with(client, server, 2_411_737_909_779_049_400, faults), 15_060);
}
