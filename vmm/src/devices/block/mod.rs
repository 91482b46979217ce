//! The block device: virtio-blk (virtio 1.2, section 5.2) over a file.
mod device;
mod request;
mod storage;
#[cfg(test)]
mod tests;
mod worker;

pub use device::BlockDevice;
