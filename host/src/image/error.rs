//! Why an image is refused.
use super::source::ReadError;

/// Why an image is refused, as a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file cannot be read.
    #[error("the image cannot be read: {0}")]
    Read(#[source] ReadError),
    /// Larger than [`super::FILE_LEN_MAX`].
    #[error("the image file is longer than {} MiB", super::FILE_LEN_MAX >> 20)]
    FileTooLong,
    /// No ELF magic.
    #[error("the file is not an ELF file")]
    NotElf,
    /// ELF, but not 64-bit little-endian for x86-64.
    #[error("the file is an ELF file, but not one for 64-bit x86")]
    WrongMachine,
    /// Not `ET_EXEC`.
    #[error(
        "the file is not a static, non-relocatable executable (ELF type {0}, not ET_EXEC): \
         link it without PIE"
    )]
    NotExecutable(u16),
    /// `PT_INTERP` or `PT_DYNAMIC`.
    #[error("the image is dynamically linked; only static images can run")]
    Dynamic,
    /// A relocation section with entries.
    #[error("the image has relocations (section {section}); nothing would apply them")]
    Relocations {
        /// Index of the section.
        section: usize,
    },
    /// Headers or segments reach beyond the end of the file, or counts are out of range.
    #[error("the image is truncated or its ELF headers are malformed")]
    Truncated,
    /// Nothing to load.
    #[error("the image has no segments to load")]
    NoSegments,
    /// W+X.
    #[error("segment {segment} of the image is writable and executable at once")]
    WritableAndExecutable {
        /// Index of the program header.
        segment: usize,
    },
    /// Below the image base or beyond the largest RAM.
    #[error(
        "segment {segment} of the image lies outside the addresses that images may use \
         (from {:#x})",
        paravane_abi::layout::IMAGE_BASE
    )]
    OutOfRange {
        /// Index of the program header.
        segment: usize,
    },
    /// More bytes in the file than in memory.
    #[error("segment {segment} of the image is longer in the file than in memory")]
    LongerInFile {
        /// Index of the program header.
        segment: usize,
    },
    /// Address and file offset differ within a page.
    #[error("segment {segment} of the image is not aligned to pages")]
    Unaligned {
        /// Index of the program header.
        segment: usize,
    },
    /// Two segments in one page.
    #[error("two segments of the image share the page at {address:#x}")]
    Overlap {
        /// Address of the second one.
        address: u64,
    },
    /// `PT_TLS` makes no sense.
    #[error("the thread-local storage of the image is malformed")]
    ThreadLocal,
    /// The entry point is not code.
    #[error("the entry point {address:#x} does not lie in an executable segment")]
    Entry {
        /// The entry point.
        address: u64,
    },
    /// No manifest note.
    #[error("the file has no Paravane manifest: it is not a Paravane image")]
    NoManifest,
    /// More than one manifest note.
    #[error("the image has more than one manifest")]
    TwoManifests,
    /// Built for another version of the contract.
    #[error(
        "the image was built for version {}.{} of the contract; this host speaks {}.{}",
        .0 >> 16, .0 & 0xffff,
        paravane_abi::ABI_VERSION >> 16, paravane_abi::ABI_VERSION & 0xffff
    )]
    Version(u32),
    /// The manifest breaks a rule.
    #[error("the manifest of the image is malformed: {0}")]
    Manifest(&'static str),
}
