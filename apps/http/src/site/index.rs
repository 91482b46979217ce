//! Builds the index of a site from the headers of its archive.
use super::member::{self, Member, MemberKind, Overrides};
use super::window::Window;
use super::{Coding, File, FileId, IndexError, Site, media_type};
use crate::platform::{BlockSource, SECTOR_LEN, SECTOR_SIZE};

/// Longest extension data (long name, pax records) of one member, bytes.
const EXTENSION_LEN_MAX: u64 = 1 << 20;

/// Most links that are followed to reach a file.
const LINK_DEPTH_MAX: usize = 8;

/// Reads the headers of the tar archive on `disk` and indexes its files.
///
/// Contents are skipped; memory is bounded by the index itself and one read window.
///
/// # Errors
/// If the disk cannot be read or does not hold a whole tar archive.
pub async fn index<B: BlockSource>(disk: B) -> Result<Site, IndexError> {
    let mut builder = Builder::default();
    let mut window = Window::new(disk);
    let mut overrides = Overrides::default();
    let mut offset = 0;
    while let Some(member) = next_member(&mut window, offset, &mut overrides).await? {
        let content = offset + SECTOR_LEN;
        if let MemberKind::Extension(extension) = member.kind {
            let len = usize::try_from(member.len.min(EXTENSION_LEN_MAX)).unwrap_or(0);
            let data = window
                .get(content, len)
                .await
                .map_err(|error| IndexError::Read { offset: content, error })?;
            overrides.add(extension, data).ok_or(IndexError::Damaged { offset: content })?;
        } else {
            builder.add(&member, content);
        }
        offset = content + member.len.next_multiple_of(SECTOR_LEN);
    }
    Ok(builder.finish())
}

/// The member whose header is at `offset`; none at the end of the archive, which is a block of zeros
/// or the end of the disk.
async fn next_member<B: BlockSource>(
    window: &mut Window<B>,
    offset: u64,
    overrides: &mut Overrides,
) -> Result<Option<Member>, IndexError> {
    if offset >= window.disk_len() {
        return Ok(None);
    }
    let disk_len = window.disk_len();
    let block = window
        .get(offset, SECTOR_SIZE)
        .await
        .map_err(|error| IndexError::Read { offset, error })?;
    if block.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    let member = member::parse(block, offset, std::mem::take(overrides))?;
    let room = disk_len - offset - SECTOR_LEN;
    if stored_len(&member).is_none_or(|len| len > room) {
        return Err(IndexError::Truncated { offset });
    }
    Ok(Some(Member { len: stored_len(&member).unwrap_or(0), ..member }))
}

/// Bytes of content behind the header: links and directories have none, whatever they claim.
fn stored_len(member: &Member) -> Option<u64> {
    let has_content = !matches!(member.kind, MemberKind::HardLink(_) | MemberKind::SymbolicLink(_));
    let len = if has_content { member.len } else { 0 };
    len.checked_next_multiple_of(SECTOR_LEN).map(|_| len)
}

#[derive(Default)]
struct Builder {
    site: Site,
    /// Links: site path and the site path it stands for.
    links: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Builder {
    fn add(&mut self, member: &Member, content: u64) {
        let path = member::site_path(&member.path);
        match (&member.kind, path) {
            (MemberKind::Other | MemberKind::Extension(_), _) => {}
            (MemberKind::File, Some(path)) => self.add_file(path, member, content),
            (MemberKind::HardLink(target), Some(path)) => {
                self.add_link(path, member::site_path(target));
            }
            (MemberKind::SymbolicLink(target), Some(path)) => {
                let target = member::resolve(&path, target);
                self.add_link(path, target);
            }
            (_, None) | (MemberKind::Sparse, _) => self.site.skipped += 1,
        }
    }

    /// A later member with the same path replaces an earlier one, as when an archive is unpacked.
    fn add_file(&mut self, path: Vec<u8>, member: &Member, offset: u64) {
        let file = File {
            offset,
            len: member.len,
            modified: member.modified,
            media_type: media_type::of_name(&path),
            variants: [None; 2],
        };
        if let Some(id) = self.site.paths.get(&path[..]) {
            self.site.files[id.index()] = file;
        } else if let Ok(id) = u32::try_from(self.site.files.len()) {
            self.site.files.push(file);
            self.site.paths.insert(path.into(), FileId(id));
        }
    }

    fn add_link(&mut self, path: Vec<u8>, target: Option<Vec<u8>>) {
        match target {
            Some(target) => self.links.push((path, target)),
            None => self.site.skipped += 1,
        }
    }

    fn finish(mut self) -> Site {
        self.resolve_links();
        self.add_variants();
        self.add_index_pages();
        self.site
    }

    fn resolve_links(&mut self) {
        for _ in 0..LINK_DEPTH_MAX {
            let site = &mut self.site;
            self.links.retain(|(path, target)| match site.paths.get(&target[..]).copied() {
                Some(id) => {
                    site.paths.insert(path.clone().into(), id);
                    false
                }
                None => true,
            });
        }
        self.site.skipped += self.links.len();
    }

    fn add_variants(&mut self) {
        let mut variants = Vec::new();
        for (path, &variant) in &self.site.paths {
            for coding in Coding::ALL {
                let plain = path.strip_suffix(coding.suffix());
                if let Some(&plain) = plain.and_then(|plain| self.site.paths.get(plain)) {
                    variants.push((plain, coding, variant));
                }
            }
        }
        for (plain, coding, variant) in variants {
            self.site.files[plain.index()].variants[coding as usize] = Some(variant);
        }
    }

    fn add_index_pages(&mut self) {
        const INDEX: &[u8] = b"index.html";
        let is_index = |path: &[u8]| path == INDEX || path.ends_with(b"/index.html");
        let directories: Vec<(Box<[u8]>, FileId)> = self
            .site
            .paths
            .iter()
            .filter(|(path, _)| is_index(path))
            .map(|(path, &id)| (path[..path.len() - INDEX.len()].into(), id))
            .collect();
        self.site.paths.extend(directories);
    }
}
