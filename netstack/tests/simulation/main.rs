//! Stacks joined back to back by a link that misbehaves, in virtual time.
mod any_ip;
mod demultiplexer;
mod hostile;
mod lifecycle;
mod link;
mod transfer;
mod udp;
mod world;
