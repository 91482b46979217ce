//! The network device: virtio-net (virtio 1.2, section 5.1) over a frame link.
mod device;
mod frames;
mod header;
mod receive;
#[cfg(test)]
mod tests;
mod transmit;

pub use device::NetDevice;
pub use frames::FrameLink;
