//! Where an image's bytes come from.
use alloc::boxed::Box;

/// Why bytes cannot be read: whatever the source says.
pub type ReadError = Box<dyn core::error::Error + Send + Sync>;

/// Random access to the bytes of an image.
pub trait Source {
    /// Length in bytes.
    ///
    /// # Errors
    /// The source cannot be examined.
    fn len(&self) -> Result<u64, ReadError>;

    /// Whether there are no bytes.
    ///
    /// # Errors
    /// The source cannot be examined.
    fn is_empty(&self) -> Result<bool, ReadError> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from the bytes at `offset`.
    ///
    /// # Errors
    /// The bytes end before, or cannot be read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError>;
}

impl Source for [u8] {
    fn len(&self) -> Result<u64, ReadError> {
        Ok(u64::try_from(<[u8]>::len(self))?)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..)?.get(..buffer.len()))
            .ok_or("the bytes end before")?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}
