//! TCP/IP above smoltcp's wire formats.
//!
//! A frame is taken to its connection by a hash of the four-tuple, and the connection's next deadline
//! goes into a heap of timers: nothing looks at all connections for one packet or one moment. Data to
//! send lie in ropes of references; received data, in chunks from a common budget.
//!
//! The stack does no input or output: the owner hands it frames with [`Stack::receive`], gives it a
//! [`FramePort`] to write frames into, and calls [`Stack::poll`] after its applications ran and at
//! [`Stack::next_deadline`]. Time is an argument everywhere, so that tests run in virtual time.
//!
//! In *any-IP mode* the stack plays a whole internet for one guest: it answers for its own address
//! as the gateway, and offers connections and datagrams to any other address to its owner, see
//! [`Stack::accept_any`] and [`Stack::udp_recv_any`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod any;
mod arp;
mod buffers;
mod config;
mod connection;
mod dhcp;
mod discovery;
mod dns;
mod flow;
mod icmp;
mod ingress;
mod ip;
mod ipv6;
mod link;
mod listener;
mod mld;
mod ndp;
mod neighbors;
mod offload;
mod port;
mod secret;
mod slab;
mod stack;
mod tcp;
mod timer;
mod tombstone;
mod udp;

pub use any::PendingId;
pub use buffers::BufferLimits;
pub use config::{Addressing, Addressing6, Config, Lease, Lease6, Offloads};
pub use connection::ConnectionId;
pub use dns::{DnsError, QueryId};
pub use flow::Flow;
pub use listener::{ListenError, ListenerId};
pub use port::{FramePort, RxMeta, TxMeta};
pub use smoltcp::time::{Duration, Instant};
pub use stack::{Counters, Stack};
pub use tcp::TcpError;
pub use udp::{Datagram, UdpError, UdpId};
