//! TCP (RFC 9293), one connection at a time: what the demultiplexer gives to each, and what the
//! application asks of it.
//!
//! A connection ([`control::Tcb`]) does no input or output of its own. `input` takes a segment in,
//! `output` writes what there is to say to the port; both are called by the stack. Data to send lies
//! in a rope of references, received data in a rope of chunks; both are empty, and take no memory,
//! while a connection is idle. What a lossy path needs exists while something is missing.
mod api;
mod arrival;
mod congestion;
pub(crate) mod control;
mod cookie;
pub(crate) mod handshake;
pub(crate) mod header;
mod input;
pub(crate) mod output;
mod receive_queue;
mod recovery;
mod rope;
mod rtt;
mod scoreboard;
pub(crate) mod segment;
mod send_queue;
pub(crate) mod sequence;

pub use api::TcpError;

/// How far both directions of a connection have come (RFC 9293, 3.3.1: SND.NXT and RCV.NXT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Next sequence number of ours.
    pub(crate) send_next: sequence::Seq,
    /// Next sequence number of the peer's.
    pub(crate) receive_next: sequence::Seq,
}

/// A length as sequence numbers count. Nothing that a connection handles is longer than they can say.
pub(crate) fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
