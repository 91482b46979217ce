//! The guest's own virtio front-ends.
#![no_std]
