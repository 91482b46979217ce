//! TCP/IP around smoltcp, driven per connection through a hash demultiplexer.
#![no_std]
#![forbid(unsafe_code)]
