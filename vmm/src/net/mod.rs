//! The host's ends of guest networks.
pub mod tap;
pub mod user;
pub mod wire;
