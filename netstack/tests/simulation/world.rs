//! Two stacks and the link between them.
use crate::link::{Faults, Line};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::task::{Context, Poll, Waker};
use paravane_netstack::{
    Addressing, Addressing6, BufferLimits, Config, ConnectionId, Duration, Instant, Lease,
    ListenerId, Offloads, Stack, TcpError,
};

pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x15];
pub(crate) const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

pub(crate) const BUFFERS: BufferLimits = BufferLimits {
    rx_min: 4 << 10,
    rx_max: 64 << 10,
    tx_min: 4 << 10,
    tx_max: 256 << 10,
    total: 8 << 20,
};

pub(crate) fn config(mac: [u8; 6], address: Ipv4Addr) -> Config {
    let lease = Lease { address, prefix_len: 24, gateway: Some(SERVER), dns: Some(SERVER) };
    Config {
        mac,
        mtu: 1500,
        offloads: Offloads::default(),
        addressing: Addressing::Static(lease),
        addressing6: Addressing6::Off,
        any_ip: false,
        connections_max: 4096,
        buffers: BUFFERS,
        seed: 42,
    }
}

pub(crate) fn client_config() -> Config {
    config(CLIENT_MAC, CLIENT)
}

pub(crate) fn server_config() -> Config {
    config(SERVER_MAC, SERVER)
}

pub(crate) fn at(address: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(address), port)
}

pub(crate) fn no_context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) client: Stack,
    pub(crate) server: Stack,
    pub(crate) to_server: Line,
    pub(crate) to_client: Line,
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        Self::with(client_config(), server_config(), seed, faults)
    }

    pub(crate) fn perfect() -> Self {
        Self::new(1, Faults::default())
    }

    pub(crate) fn with(client: Config, server: Config, seed: u64, faults: Faults) -> Self {
        let now = Instant::ZERO;
        Self {
            now,
            client: Stack::new(client, now),
            server: Stack::new(server, now),
            to_server: Line::new(seed, faults),
            to_client: Line::new(seed.wrapping_mul(3), faults),
        }
    }

    /// Lets everything that is due at this moment happen.
    pub(crate) fn settle(&mut self) {
        self.to_server.now = self.now;
        self.to_client.now = self.now;
        while let Some(flying) = self.to_server.arrive() {
            self.server.receive(self.now, &flying.frame, flying.meta, &mut self.to_client);
        }
        while let Some(flying) = self.to_client.arrive() {
            self.client.receive(self.now, &flying.frame, flying.meta, &mut self.to_server);
        }
        self.client.poll(self.now, &mut self.to_server);
        self.server.poll(self.now, &mut self.to_client);
    }

    /// Goes on to the next moment at which something happens. `false` if nothing ever will.
    pub(crate) fn step(&mut self) -> bool {
        self.settle();
        let moments = [
            self.client.next_deadline(),
            self.server.next_deadline(),
            self.to_server.next_arrival(),
            self.to_client.next_arrival(),
        ];
        let Some(next) = moments.into_iter().flatten().min() else { return false };
        self.now = next.max(self.now + Duration::from_micros(1));
        true
    }

    /// Runs until `done`, or panics after `limit` of virtual time.
    pub(crate) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now + limit;
        loop {
            self.settle();
            if done(self) {
                return;
            }
            assert!(self.step() && self.now < end, "stuck at {}", self.now);
        }
    }

    /// Runs for some virtual time.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step() && self.now < end {}
        self.now = end;
        self.settle();
    }

    /// An established connection from client to server: both ends.
    pub(crate) fn connected(
        &mut self,
        listener: ListenerId,
        port: u16,
    ) -> (ConnectionId, ConnectionId) {
        self.connected_to(listener, at(SERVER, port))
    }

    /// The same, by any address of the server's.
    pub(crate) fn connected_to(
        &mut self,
        listener: ListenerId,
        server: SocketAddr,
    ) -> (ConnectionId, ConnectionId) {
        let near = self.client.connect(server, None).unwrap();
        let mut far = None;
        self.run_until(Duration::from_secs(60), |world| {
            far = far.or(accept(&mut world.server, listener));
            let connected = world.client.poll_connected(near, &mut no_context());
            assert!(!matches!(connected, Poll::Ready(Err(_))), "{connected:?}");
            far.is_some() && connected.is_ready()
        });
        (near, far.unwrap())
    }
}

pub(crate) fn accept(stack: &mut Stack, listener: ListenerId) -> Option<ConnectionId> {
    match stack.poll_accept(listener, &mut no_context()) {
        Poll::Ready(id) => id,
        Poll::Pending => None,
    }
}

/// Writes what fits. Bytes written.
pub(crate) fn send(stack: &mut Stack, id: ConnectionId, data: &[u8]) -> Result<usize, TcpError> {
    let mut written = 0;
    while written < data.len() {
        let rest = &data[written..];
        let poll = stack.poll_send(id, &mut no_context(), |room| {
            let len = room.len().min(rest.len());
            room[..len].copy_from_slice(&rest[..len]);
            (len, len)
        });
        match poll {
            Poll::Ready(Ok(len)) => written += len,
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => break,
        }
    }
    Ok(written)
}

/// Reads what is there. `true` if the peer has finished.
pub(crate) fn receive(
    stack: &mut Stack,
    id: ConnectionId,
    data: &mut Vec<u8>,
) -> Result<bool, TcpError> {
    loop {
        let poll = stack.poll_recv(id, &mut no_context(), |bytes| {
            data.extend_from_slice(bytes);
            (bytes.len(), ())
        });
        match poll {
            Poll::Ready(Ok(Some(()))) => {}
            Poll::Ready(Ok(None)) => return Ok(true),
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => return Ok(false),
        }
    }
}
