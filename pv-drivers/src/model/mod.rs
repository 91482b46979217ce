//! Models of what is on the other side of the drivers, for tests and fuzz targets: memory that knows
//! what a device may touch, the device side of a virtqueue, and devices that behave or do not.
//!
//! Everything is in one process and, apart from the model checker's own memory, on one thread.
mod disk;
mod host;
mod memory;
mod queue;
mod wire;

pub use disk::Disk;
pub use host::Host;
pub use memory::{Arena, ArenaRing};
pub use queue::{DeviceChain, DeviceQueue};
pub use wire::Wire;
