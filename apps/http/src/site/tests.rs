//! Archives of many dialects, indexed.
use super::*;
use crate::testing::{EPOCH, MemoryDisk, archive};
use futures_executor::block_on;
use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

/// File numbers `0..count`.
pub(crate) fn file_ids(count: u32) -> impl Iterator<Item = FileId> {
    (0..count).map(FileId)
}

fn site(bytes: Vec<u8>) -> Site {
    block_on(index(MemoryDisk::new(bytes))).unwrap()
}

fn file<'a>(site: &'a Site, path: &str) -> Option<&'a File> {
    match site.find(path.as_bytes()) {
        Found::File(id) => Some(site.file(id)),
        Found::Directory | Found::Nothing => None,
    }
}

fn add_link(builder: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, target: &str) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    builder.append_link(&mut header, path, target).unwrap();
}

#[test]
fn files_directories_and_index_pages_are_found() {
    let site = site(archive(&[
        ("index.html", b"root"),
        ("a/index.html", b"page"),
        ("a/b/style.css", b"css"),
        ("empty", b""),
    ]));
    assert_eq!((site.file_count(), site.total_len(), site.skipped_count()), (4, 11, 0));
    assert_eq!(file(&site, "").unwrap().len, 4);
    assert_eq!(file(&site, "a/").unwrap().offset, file(&site, "a/index.html").unwrap().offset);
    assert_eq!(file(&site, "a/b/style.css").unwrap().media_type, "text/css; charset=utf-8");
    assert_eq!(file(&site, "empty").unwrap().len, 0);
    assert_eq!(file(&site, "empty").unwrap().modified, EPOCH);
    assert_eq!(site.find(b"a"), Found::Directory);
    for nothing in ["a/b", "a/b/", "b", "/", "index.html/", "A/"] {
        assert_eq!(site.find(nothing.as_bytes()), Found::Nothing, "{nothing}");
    }
}

#[test]
fn long_names_are_found_in_gnu_and_pax_archives() {
    let long = format!("{}/file.txt", ["directory-with-a-name"; 20].join("/"));
    assert!(file(&site(archive(&[(&long, b"x")])), &long).is_some());

    let mut builder = Builder::new(Vec::new());
    builder.append_pax_extensions([("path", long.as_bytes()), ("mtime", b"7.5")]).unwrap();
    let mut header = Header::new_ustar();
    header.set_size(1);
    builder.append_data(&mut header, "short", &b"x"[..]).unwrap();
    let site = site(builder.into_inner().unwrap());
    assert_eq!(file(&site, &long).unwrap().modified, 7);
    assert!(file(&site, "short").is_none());
}

#[test]
fn links_are_other_names_for_files() {
    // The builder goes on behind the archive's one file, where its end would be.
    let mut builder = Builder::new(archive(&[("d/file.txt", b"abc")])[..1024].to_vec());
    add_link(&mut builder, EntryType::Symlink, "second", "first");
    add_link(&mut builder, EntryType::Symlink, "first", "d/file.txt");
    add_link(&mut builder, EntryType::Link, "d/hard", "d/file.txt");
    add_link(&mut builder, EntryType::Symlink, "d/up", "../first");
    add_link(&mut builder, EntryType::Symlink, "dangling", "nowhere");
    add_link(&mut builder, EntryType::Symlink, "outside", "../../etc/passwd");
    add_link(&mut builder, EntryType::Symlink, "loop", "loop");
    let site = site(builder.into_inner().unwrap());
    for path in ["first", "second", "d/hard", "d/up"] {
        assert_eq!(file(&site, path).unwrap().len, 3, "{path}");
    }
    assert!(file(&site, "dangling").is_none() && file(&site, "outside").is_none());
    assert_eq!((site.file_count(), site.skipped_count()), (1, 3));
}

#[test]
fn precompressed_forms_belong_to_their_plain_file() {
    let site =
        site(archive(&[("a.css.gz", b"gz"), ("a.css", b"css"), ("a.css.br", b"b"), ("b.gz", b"")]));
    let plain = file(&site, "a.css").unwrap();
    assert!(plain.has_variants());
    let len_of = |coding| site.file(plain.variant(coding).unwrap()).len;
    assert_eq!((len_of(Coding::Brotli), len_of(Coding::Gzip)), (1, 2));
    assert!(!file(&site, "b.gz").unwrap().has_variants());
}

/// A bundle: a comment of several megabytes, of any bytes, whose header's name is an ELF header.
#[test]
fn a_comment_before_the_files_is_skipped_whatever_its_size() {
    for len in [0, 1, 511, 512, 513, 5 << 20] {
        let content: Vec<u8> = (0_u8..=255).rev().cycle().take(len).collect();
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XGlobalHeader);
        header.set_size(len as u64);
        header.as_mut_bytes()[..20]
            .copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0");
        header.set_cksum();
        let mut bytes = [header.as_bytes().as_slice(), &content].concat();
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        let start = bytes.len() as u64;
        bytes.extend(archive(&[("a", b"abc"), ("b", b"")]));
        let disk = MemoryDisk::new(bytes);
        let site = block_on(index(disk.clone())).unwrap();
        assert_eq!((site.file_count(), site.skipped_count()), (2, 0), "{len}");
        assert_eq!(file(&site, "a").unwrap().offset, start + 512);
        assert!(disk.reads.get() <= 3, "{} reads", disk.reads.get());
    }
}

#[test]
fn a_later_member_replaces_an_earlier_one() {
    let site = site(archive(&[("a", b"old"), ("a", b"newer")]));
    assert_eq!((site.file_count(), file(&site, "a").unwrap().len), (1, 5));
}

#[test]
fn broken_archives_are_refused_with_the_place() {
    let good = archive(&[("a", &[1; 700]), ("b", b"b")]);
    let check = |bytes: Vec<u8>, expect: &str| {
        let error = block_on(index(MemoryDisk::new(bytes))).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    check(vec![b'x'; 1024], "not a tar archive");
    check(good[..1024].to_vec(), "cut short: the file at byte 0");
    let mut damaged = good.clone();
    damaged[1536] ^= 1;
    check(damaged, "bad header at byte 1536");
    let disk = MemoryDisk::new(good);
    disk.broken.set(true);
    let error = block_on(index(disk)).unwrap_err().to_string();
    assert!(error.contains("cannot be read at byte 0"), "{error}");
}

#[test]
fn an_empty_disk_is_an_empty_site() {
    assert_eq!(site(Vec::new()).file_count(), 0);
    assert_eq!(site(archive(&[])).file_count(), 0);
}

#[test]
fn small_files_are_indexed_with_few_reads() {
    let names: Vec<String> = (0..5000).map(|i| format!("d{}/f{i}.html", i % 7)).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (&name[..], &b"x"[..])).collect();
    let disk = MemoryDisk::new(archive(&files));
    let site = block_on(index(disk.clone())).unwrap();
    assert_eq!(site.file_count(), 5000);
    assert!(disk.reads.get() < 50, "{} reads", disk.reads.get());
}

proptest! {
    #[test]
    fn any_disk_is_indexed_or_refused(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..4096),
        flips in proptest::collection::vec((0_usize..2048, any::<u8>()), 0..4),
    ) {
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        let _ = block_on(index(MemoryDisk::new(bytes)));
        let mut nearly = archive(&[("a/long/name", b"content"), ("b", b"")]);
        for (at, value) in flips {
            let at = at % nearly.len();
            nearly[at] = value;
        }
        let _ = block_on(index(MemoryDisk::new(nearly)));
    }
}
