//! Whatever is opened, written and closed in whatever order: each byte comes out of the connection
//! that it was written to, as in a model that keeps one queue a connection.
use crate::link::Faults;
use crate::world::{World, receive, send};
use paravane_netstack::{ConnectionId, Duration};
use proptest::prelude::*;

/// Something an application does. Connections are chosen by index among those that are open.
#[derive(Clone, Debug)]
enum Action {
    Open { port: u16 },
    Write { connection: prop::sample::Index, len: usize, upwards: bool },
    Close { connection: prop::sample::Index },
    Abort { connection: prop::sample::Index },
    Wait { ms: u64 },
}

fn action() -> impl Strategy<Value = Action> {
    let connection = any::<prop::sample::Index>;
    prop_oneof![
        2 => (80u16..83).prop_map(|port| Action::Open { port }),
        5 => (connection(), 1usize..3000, any::<bool>())
            .prop_map(|(connection, len, upwards)| Action::Write { connection, len, upwards }),
        1 => connection().prop_map(|connection| Action::Close { connection }),
        1 => connection().prop_map(|connection| Action::Abort { connection }),
        2 => (0u64..50).prop_map(|ms| Action::Wait { ms }),
    ]
}

/// A connection as the model sees it: what was written into each end.
struct Open {
    near: ConnectionId,
    far: ConnectionId,
    up: Vec<u8>,
    down: Vec<u8>,
}

impl Open {
    /// All that was written arrives at the other end of this connection, and nothing else.
    fn verify(&self, world: &mut World) {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        world.run_until(Duration::from_secs(60), |world| {
            receive(&mut world.server, self.far, &mut up).unwrap();
            receive(&mut world.client, self.near, &mut down).unwrap();
            up.len() >= self.up.len() && down.len() >= self.down.len()
        });
        assert!(up == self.up && down == self.down);
    }
}

fn run(actions: Vec<Action>) {
    let mut world = World::new(1, Faults { lost: 20, ..Faults::default() });
    let listeners: Vec<_> = (80..83).map(|port| world.server.listen(port, 16).unwrap()).collect();
    let mut open: Vec<Open> = Vec::new();
    let mut salt = 0u8;
    for action in actions {
        match action {
            Action::Open { port } => {
                let (near, far) = world.connected(listeners[usize::from(port - 80)], port);
                open.push(Open { near, far, up: Vec::new(), down: Vec::new() });
            }
            Action::Wait { ms } => world.run_for(Duration::from_millis(ms)),
            _ if open.is_empty() => {}
            Action::Write { connection, len, upwards } => {
                let index = connection.index(open.len());
                let one = &mut open[index];
                salt = salt.wrapping_add(1);
                let data = vec![salt; len];
                let (stack, id, written) = if upwards {
                    (&mut world.client, one.near, &mut one.up)
                } else {
                    (&mut world.server, one.far, &mut one.down)
                };
                let len = send(stack, id, &data).unwrap();
                written.extend_from_slice(&data[..len]);
            }
            Action::Close { connection } => {
                let one = open.remove(connection.index(open.len()));
                one.verify(&mut world);
                world.client.release(one.near);
                world.server.release(one.far);
            }
            Action::Abort { connection } => {
                let one = open.remove(connection.index(open.len()));
                world.client.abort(one.near);
                world.client.release(one.near);
                world.server.release(one.far);
            }
        }
    }
    for one in open {
        one.verify(&mut world);
        world.client.release(one.near);
        world.server.release(one.far);
    }
    world.run_for(Duration::from_secs(900));
    assert_eq!((world.client.buffers_used(), world.server.buffers_used()), (0, 0));
    assert_eq!((world.client.connection_count(), world.server.connection_count()), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn connections_do_not_mix(actions in prop::collection::vec(action(), 1..40)) {
        run(actions);
    }
}
