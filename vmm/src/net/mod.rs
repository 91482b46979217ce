//! The host's ends of guest networks.
pub mod tap;
