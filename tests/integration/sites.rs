//! Sites of every size.
use crate::backend::Backend;
use crate::case::Case;
use crate::domain::{Domain, free_port};
use crate::web::Web;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("sites::one-file", one_file).needs("curl"),
        Case::new("sites::ten-thousand-files", ten_thousand_files).needs("curl"),
        Case::new("sites::two-gigabyte-tar", two_gigabytes).needs("curl").needs("tar"),
        Case::new("sites::empty", empty).needs("curl"),
        Case::new("sites::not-a-tar", not_a_tar),
    ]
}

fn one_file(backend: Backend) -> Result<()> {
    let web = Web::serve(backend, "", |site| Ok(fs::write(site.join("only.txt"), "only")?))?;
    ensure!(web.curl("/only.txt", &[])?.body == b"only", "the file");
    ensure!(web.curl("/", &[])?.status == 404, "no index");
    Ok(())
}

fn ten_thousand_files(backend: Backend) -> Result<()> {
    let web = Web::serve(backend, "", |site| {
        for folder in 0..100 {
            let folder_path = site.join(format!("folder-{folder:02}"));
            fs::create_dir(&folder_path)?;
            for file in 0..100 {
                fs::write(folder_path.join(format!("{file}.txt")), format!("{folder}/{file}"))?;
            }
        }
        Ok(())
    })?;
    for (folder, file) in [(0, 0), (42, 17), (99, 99)] {
        let answer = web.curl(&format!("/folder-{folder:02}/{file}.txt"), &[])?;
        ensure!(answer.body == format!("{folder}/{file}").as_bytes(), "{answer:?}");
    }
    ensure!(web.curl("/folder-99/100.txt", &[])?.status == 404, "one too many");
    Ok(())
}

/// A tar of two gigabytes, mostly holes, in a guest of 64 MiB.
fn two_gigabytes(backend: Backend) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let site = folder.path().join("site");
    fs::create_dir(&site)?;
    let big = File::create(site.join("a-big.bin"))?;
    big.set_len(2 << 30)?;
    big.write_all_at(b"needle", (2 << 30) - 100)?;
    fs::write(site.join("z-last.txt"), "last")?;
    let tar = folder.path().join("site.tar");
    let made = Command::new("tar")
        .args(["--format=gnu", "-C"])
        .arg(&site)
        .arg("-cf")
        .arg(&tar)
        .args(["a-big.bin", "z-last.txt"])
        .status()?;
    ensure!(made.success(), "tar");
    let (domain, url) = serve_tar(backend, &tar)?;
    let curl = |arguments: &[&str]| -> Result<Vec<u8>> {
        let output =
            Command::new("curl").args(["-sS", "--max-time", "60"]).args(arguments).output()?;
        Ok(output.stdout)
    };
    ensure!(curl(&[&format!("{url}/z-last.txt")])? == b"last", "behind the big file");
    let end = curl(&["-r", "2147483548-2147483553", &format!("{url}/a-big.bin")])?;
    ensure!(end == b"needle", "the end of the big file: {end:?}");
    let size = curl(&["--head", &format!("{url}/a-big.bin")])?;
    ensure!(String::from_utf8_lossy(&size).contains("content-length: 2147483648"), "its size");
    domain.stop()?.expect(0, &[])
}

fn serve_tar(backend: Backend, tar: &Path) -> Result<(Domain, String)> {
    let port = free_port();
    let publish = format!("127.0.0.1:{port}:80");
    let tar = tar.to_str().context("a path in UTF-8")?;
    let mut domain = Domain::start(backend, &["web", "--site", tar, "--publish", &publish])?;
    domain.wait_for("serving")?;
    Ok((domain, format!("http://127.0.0.1:{port}")))
}

fn empty(backend: Backend) -> Result<()> {
    let web = Web::serve(backend, "", |_| Ok(()))?;
    ensure!(web.curl("/", &[])?.status == 404, "nothing there");
    Ok(())
}

/// Garbage, and a tar that ends in the middle of a file: an error that says so.
fn not_a_tar(backend: Backend) -> Result<()> {
    let mut file = tempfile::Builder::new().suffix(".tar").tempfile()?;
    file.write_all(&[0x5a; 10_000])?;
    let path = file.path().display().to_string();
    let ended = Domain::run(backend, &["web", "--site", &path])?;
    ensure!(ended.status != 0 && ended.text.contains("archive"), "{ended:?}");

    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("file"), [1; 5000])?;
    let tar = folder.path().join("short.tar");
    let made = Command::new("tar")
        .arg("-C")
        .arg(folder.path())
        .arg("-cf")
        .arg(&tar)
        .arg("file")
        .status()?;
    ensure!(made.success(), "tar");
    let mut short = File::options().write(true).open(&tar)?;
    short.set_len(2048)?;
    short.seek(SeekFrom::End(0))?;
    let ended = Domain::run(backend, &["web", "--site", &tar.display().to_string()])?;
    ensure!(ended.status != 0 && ended.text.contains("archive"), "{ended:?}");
    Ok(())
}
