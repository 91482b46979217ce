//! One member of a tar archive: its header block and the extension blocks before it.
use super::IndexError;
use std::borrow::Cow;
use tar::{EntryType, Header, PaxExtensions};

/// What a member is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MemberKind {
    /// A regular file.
    File,
    /// Another name for the file with this archive path.
    HardLink(Vec<u8>),
    /// A name for whatever is at this path, seen from the link's directory.
    SymbolicLink(Vec<u8>),
    /// Extension data for the next member: a long name, a long link name or pax records.
    Extension(Extension),
    /// A directory, device or other thing that a site does not serve.
    Other,
    /// A file that is stored with its holes left out.
    Sparse,
}

/// Which extension a block sequence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    LongName,
    LongLink,
    Pax,
}

/// A header block, read.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) kind: MemberKind,
    pub(super) path: Vec<u8>,
    /// Bytes of content behind the header.
    pub(super) len: u64,
    /// Unix time, seconds.
    pub(super) modified: u64,
}

/// What the extension blocks say of the member after them.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    len: Option<u64>,
    modified: Option<u64>,
    sparse: bool,
}

impl Overrides {
    /// Takes the content of an extension member.
    pub(super) fn add(&mut self, extension: Extension, content: &[u8]) -> Option<()> {
        match extension {
            Extension::LongName => self.path = Some(until_nul(content)),
            Extension::LongLink => self.link = Some(until_nul(content)),
            Extension::Pax => self.add_pax(content)?,
        }
        Some(())
    }

    fn add_pax(&mut self, content: &[u8]) -> Option<()> {
        for record in PaxExtensions::new(content) {
            let record = record.ok()?;
            let value = record.value_bytes();
            match record.key_bytes() {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.len = Some(decimal(value)?),
                b"mtime" => self.modified = Some(whole_seconds(value)),
                key => self.sparse |= key.starts_with(b"GNU.sparse."),
            }
        }
        Some(())
    }
}

/// Reads the header block at `offset` with what its extension blocks said.
pub(super) fn parse(block: &[u8], offset: u64, overrides: Overrides) -> Result<Member, IndexError> {
    let header = Header::from_byte_slice(block);
    let sum = header.cksum().map_err(|_| IndexError::Damaged { offset })?;
    if sum != checksum(block) {
        return Err(IndexError::Damaged { offset });
    }
    let own_len = header.entry_size().map_err(|_| IndexError::Damaged { offset })?;
    let link = || overrides.link.clone().or_else(|| header.link_name_bytes().map(Cow::into_owned));
    let kind = match header.entry_type() {
        EntryType::GNUSparse => MemberKind::Sparse,
        EntryType::Regular | EntryType::Continuous if overrides.sparse => MemberKind::Sparse,
        EntryType::Regular | EntryType::Continuous => MemberKind::File,
        EntryType::Link => MemberKind::HardLink(link().unwrap_or_default()),
        EntryType::Symlink => MemberKind::SymbolicLink(link().unwrap_or_default()),
        EntryType::GNULongName => MemberKind::Extension(Extension::LongName),
        EntryType::GNULongLink => MemberKind::Extension(Extension::LongLink),
        EntryType::XHeader => MemberKind::Extension(Extension::Pax),
        _ => MemberKind::Other,
    };
    Ok(Member {
        kind,
        len: overrides.len.unwrap_or(own_len),
        modified: overrides.modified.unwrap_or_else(|| header.mtime().unwrap_or(0)),
        path: overrides.path.unwrap_or_else(|| header.path_bytes().into_owned()),
    })
}

/// The sum that POSIX ustar puts into a header: all bytes, with the sum's own field as spaces.
fn checksum(block: &[u8]) -> u32 {
    const FIELD: std::ops::Range<usize> = 148..156;
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
    sum(&block[..FIELD.start]) + 8 * u32::from(b' ') + sum(&block[FIELD.end..])
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()
}

fn decimal(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// The seconds of a pax time such as `1732240000.25`; times before 1970 count as 0.
fn whole_seconds(bytes: &[u8]) -> u64 {
    let seconds = bytes.split(|&byte| byte == b'.').next().unwrap_or_default();
    decimal(seconds).unwrap_or(0)
}

/// The path within the site that an archive path means: without leading `/` or `./`, no empty and no
/// `.` segments. `None` for paths that leave the archive, name nothing, or carry a NUL.
pub(super) fn site_path(archive_path: &[u8]) -> Option<Vec<u8>> {
    join(&[], archive_path)
}

/// Follows `path` from the directory `base`, which is a site path.
pub(super) fn resolve(base: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let directory = base.iter().rposition(|&byte| byte == b'/').map_or(&[][..], |at| &base[..at]);
    join(if path.starts_with(b"/") { &[] } else { directory }, path)
}

fn join(directory: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in directory.split(|&b| b == b'/').chain(path.split(|&b| b == b'/')) {
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()?),
            _ if segment.contains(&0) => return None,
            _ => segments.push(segment),
        }
    }
    (!segments.is_empty()).then(|| segments.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_paths_become_site_paths() {
        for (path, expect) in [
            ("a/b.html", Some("a/b.html")),
            ("./a//b/./c", Some("a/b/c")),
            ("/etc/motd", Some("etc/motd")),
            ("a/../b", Some("b")),
            ("../b", None),
            ("a/../../b", None),
            ("./", None),
            ("a\0b", None),
        ] {
            let expect = expect.map(|path: &str| path.as_bytes().to_vec());
            assert_eq!(site_path(path.as_bytes()), expect, "{path:?}");
        }
    }

    #[test]
    fn links_are_followed_from_their_directory() {
        for (base, path, expect) in [
            ("a/link", "b", Some("a/b")),
            ("link", "b", Some("b")),
            ("a/link", "../b", Some("b")),
            ("a/link", "/b", Some("b")),
            ("a/link", "../../b", None),
        ] {
            let expect = expect.map(|path: &str| path.as_bytes().to_vec());
            assert_eq!(resolve(base.as_bytes(), path.as_bytes()), expect, "{base} -> {path}");
        }
    }

    #[test]
    fn pax_records_override_the_header() {
        let mut header = Header::new_ustar();
        header.set_path("short").unwrap();
        header.set_size(1);
        header.set_mtime(2);
        header.set_cksum();
        let mut overrides = Overrides::default();
        let records = b"16 path=a/longer\n10 size=7\n17 mtime=12.345678\n";
        assert_eq!(overrides.add(Extension::Pax, &records[..]), None, "a wrong record length");
        let records = b"17 path=a/longer\n10 size=7\n19 mtime=12.345678\n";
        overrides.add(Extension::Pax, &records[..]).unwrap();
        let member = parse(header.as_bytes(), 0, overrides).unwrap();
        assert_eq!(member.path, b"a/longer");
        assert_eq!((member.len, member.modified), (7, 12));
        assert_eq!(member.kind, MemberKind::File);
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let mut header = Header::new_gnu();
        header.set_path("file").unwrap();
        header.set_size(1);
        header.set_cksum();
        header.as_mut_bytes()[3] ^= 1;
        let result = parse(header.as_bytes(), 1024, Overrides::default());
        assert!(matches!(result, Err(IndexError::Damaged { offset: 1024 })));
    }
}
