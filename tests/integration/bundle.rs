//! Bundles: as loaders, tar readers, the guest and `paravane check` see them, and what an operator can do
//! wrong. Starting them is another matter.
use crate::backend::Backend;
use crate::case::Case;
use crate::domain::{Domain, free_port, guest, paravane, release};
use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use object::{Object, ObjectSegment, ObjectSymbol};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// The site that comes with Paravane.
const SITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/site");

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::new("bundle::is-a-site", is_a_site).needs("curl")]
}

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &str, body: fn() -> Result<()>| {
        Trial::test(format!("bundle::{name}"), move || body().map_err(|e| format!("{e:?}").into()))
    };
    vec![
        trial("is-a-kernel", is_a_kernel),
        trial("is-an-archive", is_an_archive),
        trial("is-reproducible", is_reproducible),
        trial("replaces-a-file-in-one-step", replaces),
        trial("without-a-site", without_a_site),
        trial("check", check),
        trial("check-finds-damage", check_finds_damage),
        trial("shim-has-what-its-list-says", check_shim),
        trial("help", help),
        trial("mistakes", mistakes),
        trial("no-shim", no_shim),
    ]
}

/// A bundle in a folder of its own.
struct Bundle {
    folder: TempDir,
    /// What `paravane bundle` said.
    said: String,
}

impl Bundle {
    fn new(arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("site.elf").display().to_string();
        let output = bundle(&[&["-o", &path], arguments].concat())?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && error.is_empty(), "{arguments:?}: {error}");
        Ok(Self { folder, said: String::from_utf8(output.stdout)? })
    }

    fn of_example() -> Result<Self> {
        Self::new(&["web", "--site", SITE, "--config", CONFIG, "--", "one", "two"])
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("site.elf")
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        Ok(fs::read(self.path())?)
    }
}

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/web.toml");

fn bundle(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(paravane()).arg("bundle").args(arguments).output()?)
}

fn is_a_kernel() -> Result<()> {
    let bundle = Bundle::of_example()?;
    let bytes = bundle.bytes()?;
    let file = object::File::parse(bytes.as_slice())?;
    let symbol = |name| file.symbol_by_name(name).with_context(|| format!("no symbol {name}"));
    ensure!(file.entry() == symbol("_start")?.address(), "the entry point");
    let end = symbol("__shim_end")?.address();
    let payload = file.segments().find(|s| s.address() == end).context("no payload")?;
    let payload = payload.data()?;
    ensure!(payload.starts_with(b"PVBUNDLE"), "the payload starts with {:?}", &payload[..8]);
    let image = fs::read(release().join("images/web"))?;
    let config = fs::read(CONFIG)?;
    for part in [image.as_slice(), &config, b"one\0two\0"] {
        ensure!(contains(payload, part), "a part of {} bytes is missing", part.len());
    }
    let site = fs::read(Path::new(SITE).join("index.html"))?;
    ensure!(!contains(payload, &site), "the site is in memory");
    for phrase in ["-kernel ", "hostfwd=tcp:127.0.0.1:8080-:80", &format!("{} bytes", bytes.len())]
    {
        ensure!(bundle.said.contains(phrase), "{phrase:?} is missing: {}", bundle.said);
    }
    Ok(())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    // The first byte tells most places apart, also in builds without optimisation.
    let mut starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == part[0]);
    starts.any(|(start, _)| bytes[start..].starts_with(part))
}

/// The names and contents that GNU tar and Python find are those of the site.
fn is_an_archive() -> Result<()> {
    let bundle = Bundle::of_example()?;
    let target = bundle.folder.path().join("unpacked");
    fs::create_dir(&target)?;
    let unpacked =
        Command::new("tar").arg("-xf").arg(bundle.path()).arg("-C").arg(&target).output()?;
    let complaint = String::from_utf8_lossy(&unpacked.stderr);
    ensure!(unpacked.status.success() && complaint.is_empty(), "tar: {complaint}");
    let same = Command::new("diff").arg("-r").arg(SITE).arg(&target).output()?;
    ensure!(same.status.success(), "{}", String::from_utf8_lossy(&same.stdout));

    let script = "import sys, tarfile\nprint(*tarfile.open(sys.argv[1]).getnames(), sep='\\n')";
    let python = Command::new("python3").args(["-c", script]).arg(bundle.path()).output()?;
    let listing = Command::new("tar").arg("-tf").arg(bundle.path()).output()?;
    let names = |output: &Output| -> Vec<String> {
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().map(|name| name.trim_end_matches('/').to_owned()).collect()
    };
    ensure!(!names(&listing).is_empty(), "{}", String::from_utf8_lossy(&listing.stderr));
    ensure!(names(&listing) == names(&python), "{}", String::from_utf8_lossy(&python.stderr));
    Ok(())
}

fn is_reproducible() -> Result<()> {
    let (one, two) = (Bundle::of_example()?.bytes()?, Bundle::of_example()?.bytes()?);
    ensure!(one == two, "two bundles of the same parts differ");
    Ok(())
}

fn replaces() -> Result<()> {
    let bundle = Bundle::of_example()?;
    let before = fs::File::open(bundle.path())?;
    let len = before.metadata()?.len();
    let path = bundle.path().display().to_string();
    let output = self::bundle(&[&guest("kernel-surface"), "--output", &path])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(before.metadata()?.len() == len, "who uses the old bundle keeps it");
    ensure!(fs::metadata(&path)?.len() != len, "the new one has its place");
    ensure!(fs::read_dir(bundle.folder.path())?.count() == 1, "nothing is left behind");
    Ok(())
}

/// Disks that the image requires have a place in the command line that is shown.
fn without_a_site() -> Result<()> {
    let bundle = Bundle::new(&["web", "--ip", "192.168.7.9/24", "--gateway", "192.168.7.1"])?;
    for phrase in ["file=disk-a.img", "net=192.168.7.9/24,host=192.168.7.1"] {
        ensure!(bundle.said.contains(phrase), "{phrase:?} is missing: {}", bundle.said);
    }
    let listing = Command::new("tar").arg("-tf").arg(bundle.path()).output()?;
    ensure!(listing.status.success() && listing.stdout.is_empty(), "an archive without files");
    Ok(())
}

fn paravane_check(path: &Path, arguments: &[&str]) -> Result<(i32, String)> {
    let output = Command::new(paravane()).arg("check").arg(path).args(arguments).output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code().unwrap_or(-1), String::from_utf8(text)?))
}

fn check() -> Result<()> {
    let bundle = Bundle::of_example()?;
    let (status, text) = paravane_check(&bundle.path(), &["--json"])?;
    ensure!(status == 0, "{text}");
    let report: serde_json::Value = serde_json::from_str(&text)?;
    ensure!(report["image"]["findings"].as_array().is_some_and(Vec::is_empty), "{text}");
    ensure!(report["shim"]["unlisted"].as_array().is_some_and(Vec::is_empty), "{text}");
    let hostile = Bundle::new(&[&guest("hostile")])?;
    let (status, text) = paravane_check(&hostile.path(), &[])?;
    ensure!(status == 1 && text.contains("vmcall"), "status {status}: {text}");
    Ok(())
}

fn check_finds_damage() -> Result<()> {
    let bundle = Bundle::of_example()?;
    let good = bundle.bytes()?;
    let check = |bytes: &[u8], says: &str| {
        fs::write(bundle.path(), bytes)?;
        let (status, text) = paravane_check(&bundle.path(), &[])?;
        ensure!(status == 1 && text.contains(says), "status {status}: {says:?}: {text}");
        ensure!(text.lines().count() == 1, "{text}");
        Ok(())
    };
    check(&good[..good.len() - 512], "the bundle is truncated: ")?;
    check(&good[..100_000], "")?;
    let mut damaged = good.clone();
    let middle = good.len() / 2;
    damaged[middle] ^= 1;
    check(&damaged, "the bundle is damaged: its checksum is wrong")
}

fn check_shim() -> Result<()> {
    let (status, text) = paravane_check(&release().join("shim"), &[])?;
    ensure!(status == 0, "{text}");
    ensure!(text.contains("exactly those that shim/privileged.txt lists"), "{text}");
    Ok(())
}

fn help() -> Result<()> {
    let output = bundle(&["--help"])?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{text}");
    for phrase in
        ["--output", "--site", "--config", "--ip", "--gateway", "--ip6", "--watchdog", "  102  "]
    {
        ensure!(text.contains(phrase), "{phrase} is missing:\n{text}");
    }
    let last = text.split("For example:").nth(1).context("no example")?;
    ensure!(last.trim_start().starts_with("qemu-system-x86_64"), "{last}");
    Ok(())
}

/// Every mistake gives one line and the documented status, and leaves no file.
fn mistakes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (out, site, short) = (path("out.elf"), path("site"), path("short.tar"));
    fs::create_dir(&site)?;
    fs::write(path("site/index.html"), "index")?;
    fs::write(&short, vec![0x5a; 2000])?;
    let check = |arguments: &[&str], status: i32, says: &str| {
        let output = bundle(arguments)?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(status), "{arguments:?}: {error}");
        ensure!(error.lines().count() == 1 && error.contains(says), "{arguments:?}: {error}");
        ensure!(output.stdout.is_empty() && !Path::new(&out).exists(), "{arguments:?}");
        Ok(())
    };
    check(&["-o", &out], 100, "<IMAGE>")?;
    check(&["web"], 100, "--output <FILE>")?;
    check(&["web", "-o", &out, "--ip", "10.0.2.15"], 100, "length of its prefix")?;
    check(&["web", "-o", &out, "--ip", "0.0.0.0/8"], 100, "addresses of the guest")?;
    check(&["web", "-o", &out, "--gateway", "10.0.2.2"], 100, "--ip")?;
    let far = ["web", "-o", &out, "--ip", "10.0.2.15/24", "--gateway", "10.0.3.1"];
    check(&far, 100, "no neighbour")?;
    check(&["web", "-o", &out, "--ip6", "fd00::2"], 100, "length of its prefix")?;
    let far = ["web", "-o", &out, "--ip6", "fd00::2/64", "--gateway6", "fd01::1"];
    check(&far, 100, "no neighbour")?;
    check(&["web", "-o", &out, "--watchdog", "soon"], 100, "soon")?;
    check(&["web", "-o", &out, "--", &"x".repeat(2000)], 100, "longer than 1024 bytes")?;
    check(&["web", "-o", &path("site/out.elf"), "--site", &site], 100, "lies in the site")?;
    check(&["nonsense", "-o", &out], 101, "nonsense")?;
    check(&["/bin/sh", "-o", &out], 101, "/bin/sh")?;
    check(&[&release().join("shim").display().to_string(), "-o", &out], 101, "shim")?;
    check(&["web", "-o", &out, "--config", "/no/such/file"], 102, "/no/such/file")?;
    check(&["web", "-o", &out, "--site", "/no/such/site"], 102, "/no/such/site")?;
    check(&["web", "-o", &out, "--site", &short], 102, "nor a tar archive")?;
    check(&["web", "-o", &site], 102, "not a file")?;
    check(&["web", "-o", "/dev/null"], 102, "not a file")?;
    check(&["web", "-o", &path("no/out.elf")], 102, "no/out.elf")?;
    ensure!(fs::read_dir(folder.path())?.count() == 2, "something is left behind");
    Ok(())
}

/// A program without the shim beside it says what is missing.
fn no_shim() -> Result<()> {
    let folder = tempfile::tempdir_in(release())?;
    let alone = folder.path().join("paravane");
    fs::hard_link(paravane(), &alone)?;
    let image = release().join("images/web");
    let out = folder.path().join("out.elf");
    let output = Command::new(alone).arg("bundle").arg(image).arg("-o").arg(&out).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(102), "{error}");
    ensure!(error.contains("there is no shim") && error.contains("scripts/build"), "{error}");
    ensure!(error.lines().count() == 1 && !out.exists(), "{error}");
    Ok(())
}

/// The guest reads the site out of a bundle, whatever lies before it.
fn is_a_site(backend: Backend) -> Result<()> {
    let bundle = Bundle::of_example()?;
    let port = free_port();
    let publish = format!("127.0.0.1:{port}:80");
    let path = bundle.path().display().to_string();
    let mut domain = Domain::start(backend, &["web", "--site", &path, "--publish", &publish])?;
    domain.wait_for("serving")?;
    let url = format!("http://127.0.0.1:{port}/assets/style.css");
    let output = Command::new("curl").args(["-sS", "--max-time", "60", &url]).output()?;
    ensure!(output.stdout == fs::read(Path::new(SITE).join("assets/style.css"))?, "{output:?}");
    domain.stop()?.expect(0, &[])
}
