//! One TCP connection: smoltcp's socket, alone in its set, and what the demultiplexer knows of it.
use crate::flow::Flow;
use crate::listener::ListenerId;
use crate::progress::Progress;
use crate::slab::SlabKey;
use crate::tcp::TcpError;
use crate::timer::Deadline;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::Socket as AnySocket;
use smoltcp::socket::tcp::{CongestionControl, Socket, State};
use smoltcp::time::{Duration, Instant};

/// Names a TCP connection. Never names another one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub(crate) SlabKey);

/// How long a peer may be silent while we wait for its answer: to a SYN ...
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// ... to data (RFC 9293, 3.9.1.1: five minutes) ...
const DATA_PATIENCE: Duration = Duration::from_secs(300);
/// ... and for it to finish after both we and the application have.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(60);

/// What lies between the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// Memory: there is no congestion to control, and nothing is won by delaying an acknowledgement
    /// that the other end may be waiting for before it closes.
    SameMachine,
    /// Anything.
    Network,
}

/// How far a connection is on its way to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Half-open: the listener's backlog holds it under this number.
    Backlog(ListenerId, u64),
    /// Established, not accepted yet.
    Queue,
    /// The application has its name.
    Application,
    /// The application has let go of it.
    Nobody,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) sockets: SocketSet<'static>,
    handle: SocketHandle,
    pub(crate) flow: Flow,
    /// Where the peer's last frame came from.
    pub(crate) peer_mac: Option<[u8; 6]>,
    pub(crate) owner: Owner,
    /// Why it ended, if not by agreement.
    pub(crate) failure: Option<TcpError>,
    /// In the queue of connections to poll.
    pub(crate) is_dirty: bool,
    pub(crate) deadline: Deadline,
    /// Since when we wait for the peer to say anything.
    waiting_since: Option<Instant>,
    /// How far it has sent and acknowledged.
    pub(crate) progress: Option<Progress>,
}

impl Connection {
    pub(crate) fn new(mut socket: Socket<'static>, flow: Flow, owner: Owner, path: Path) -> Self {
        // Servers write whole responses; holding back the last segment of one only adds latency.
        socket.set_nagle_enabled(false);
        if path == Path::SameMachine {
            socket.set_congestion_control(CongestionControl::None);
            socket.set_ack_delay(None);
        } else {
            socket.set_congestion_control(CongestionControl::Reno);
        }
        let mut sockets = SocketSet::new(alloc::vec::Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Self {
            sockets,
            handle,
            flow,
            peer_mac: None,
            owner,
            failure: None,
            is_dirty: false,
            deadline: Deadline::default(),
            waiting_since: None,
            progress: None,
        }
    }

    pub(crate) fn socket(&self) -> &Socket<'static> {
        self.sockets.get(self.handle)
    }

    pub(crate) fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// The socket, when the connection is over.
    pub(crate) fn into_socket(mut self) -> Socket<'static> {
        match self.sockets.remove(self.handle) {
            AnySocket::Tcp(socket) => socket,
            other => unreachable!("the one socket of a connection is {other:?}"),
        }
    }

    /// Whether smoltcp has nothing more to do for this connection.
    pub(crate) fn is_finished(&self) -> bool {
        let socket = self.socket();
        match socket.state() {
            State::Closed => socket.remote_endpoint().is_none(), // A reset is still to be sent else.
            State::Listen => true,                               // Reset while half-open.
            _ => false,
        }
    }

    /// Whether we want to connect and have sent nothing yet.
    pub(crate) fn is_silent(&self) -> bool {
        self.socket().state() == State::SynSent && self.progress.is_none()
    }

    /// How long the peer may be silent now, if we wait for it.
    fn patience(&self) -> Option<Duration> {
        let socket = self.socket();
        match socket.state() {
            State::SynSent => Some(CONNECT_PATIENCE),
            State::Closed | State::Listen | State::TimeWait | State::SynReceived => None,
            State::FinWait1 | State::Closing | State::LastAck => Some(DATA_PATIENCE),
            State::FinWait2 if self.owner == Owner::Nobody => Some(ORPHAN_PATIENCE),
            _ => (socket.send_queue() > 0).then_some(DATA_PATIENCE),
        }
    }

    /// The peer said something.
    pub(crate) fn heard(&mut self, now: Instant) {
        if self.waiting_since.is_some() {
            self.waiting_since = Some(now);
        }
    }

    /// When our patience with the peer ends, if we wait for it.
    pub(crate) fn patience_ends(&mut self, now: Instant) -> Option<Instant> {
        let Some(patience) = self.patience() else {
            self.waiting_since = None;
            return None;
        };
        Some(*self.waiting_since.get_or_insert(now) + patience)
    }

    /// Ends the connection with a reset because of `failure`.
    pub(crate) fn fail(&mut self, failure: TcpError) {
        self.failure.get_or_insert(failure);
        self.socket_mut().abort();
    }
}
