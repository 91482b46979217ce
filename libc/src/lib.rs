//! The C symbols that std and C libraries link against.
#![no_std]
