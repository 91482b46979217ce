//! Sites as they are packed.
use super::*;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

fn site(files: &[(&str, &str)]) -> TempDir {
    let site = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = site.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    site
}

/// Names and contents in the archive's order.
fn listing(archive: File) -> Vec<(String, String)> {
    let read = |entry: io::Result<tar::Entry<'_, File>>| {
        let mut entry = entry.unwrap();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), content)
    };
    tar::Archive::new(archive).entries().unwrap().map(read).collect()
}

fn bytes(mut archive: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    archive.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_directory_is_packed_in_order_with_whole_sectors() {
    let site = site(&[("b.txt", "two"), ("a/x.html", "one"), ("c", "")]);
    let archive = open(site.path()).unwrap();
    assert!(archive.metadata().unwrap().len().is_multiple_of(512));
    let expect = [("a", ""), ("a/x.html", "one"), ("b.txt", "two"), ("c", "")];
    let found = listing(archive);
    let found: Vec<_> = found.iter().map(|(n, c)| (n.trim_end_matches('/'), c.as_str())).collect();
    assert_eq!(found, expect);
    assert_eq!(bytes(open(site.path()).unwrap()), bytes(open(site.path()).unwrap()));
}

#[test]
fn the_time_of_the_last_change_is_kept() {
    let site = site(&[("a", "x")]);
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    File::options().write(true).open(site.path().join("a")).unwrap().set_modified(time).unwrap();
    let mut archive = tar::Archive::new(open(site.path()).unwrap());
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.header().mtime().unwrap(), 1_000_000_000);
    assert_eq!(entry.header().uid().unwrap(), 0);
}

#[test]
fn a_tar_file_is_used_as_it_is() {
    let directory = site(&[("site.tar", "not even a tar")]);
    let path = directory.path().join("site.tar");
    assert_eq!(bytes(open(&path).unwrap()), b"not even a tar");
}

#[test]
fn links_within_the_site_are_followed() {
    let site = site(&[("a/x", "one")]);
    symlink("a/x", site.path().join("file")).unwrap();
    symlink("a", site.path().join("dir")).unwrap();
    let names: Vec<_> = listing(open(site.path()).unwrap()).into_iter().map(|e| e.0).collect();
    assert!(names.contains(&"dir/x".to_owned()) && names.contains(&"file".to_owned()));
}

#[test]
fn links_out_of_the_site_and_in_circles_are_refused() {
    let outer = site(&[("secret", "s"), ("site/a", "x"), ("site2/a", "y")]);
    let root = outer.path().join("site");
    for target in ["../secret", "/etc/passwd", "../site2"] {
        symlink(target, root.join("link")).unwrap();
        assert!(matches!(open(&root), Err(SiteError::Outside { .. })), "{target}");
        fs::remove_file(root.join("link")).unwrap();
    }
    symlink(".", root.join("link")).unwrap();
    assert!(matches!(open(&root), Err(SiteError::Circle(_))));
}

#[test]
fn what_cannot_be_served_is_refused() {
    let empty = site(&[]);
    let missing = empty.path().join("nothing");
    let error = open(&missing).unwrap_err();
    assert!(matches!(error, SiteError::Read { .. }));
    assert!(error.to_string().contains("nothing"));
    symlink("gone", empty.path().join("dangling")).unwrap();
    assert!(matches!(open(empty.path()), Err(SiteError::Read { .. })));

    let long = "d/".repeat(130) + "x";
    assert!(matches!(open(site(&[(&long, "")]).path()), Err(SiteError::Name(_))));

    let socket = site(&[]);
    let _listener = std::os::unix::net::UnixListener::bind(socket.path().join("s")).unwrap();
    assert!(matches!(open(socket.path()), Err(SiteError::Kind(_))));
}
