//! What an event of the poller is about.
use mio::Token;

/// Something that is registered with the poller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The guest has sent frames, or made room for some.
    Wire,
    /// The guest's end of the wire is closed.
    LifeLine,
    /// A published TCP port, by its place in the list.
    Listener(usize),
    /// A TCP connection, by its key.
    Relay(usize),
    /// A published UDP port, by its place in the list.
    Published(usize),
    /// A flow of datagrams, by its key.
    Flow(usize),
}

const KINDS: usize = 6;

impl Source {
    pub(super) fn token(self) -> Token {
        let (kind, index) = match self {
            Self::Wire => (0, 0),
            Self::Listener(index) => (1, index),
            Self::Relay(index) => (2, index),
            Self::Published(index) => (3, index),
            Self::Flow(index) => (4, index),
            Self::LifeLine => (5, 0),
        };
        Token(index * KINDS + kind)
    }

    pub(super) fn of(token: Token) -> Self {
        let index = token.0 / KINDS;
        match token.0 % KINDS {
            0 => Self::Wire,
            1 => Self::Listener(index),
            2 => Self::Relay(index),
            3 => Self::Published(index),
            4 => Self::Flow(index),
            _ => Self::LifeLine,
        }
    }
}
