//! The guest kernel.
#![no_std]
