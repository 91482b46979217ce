//! The web appliance, asked by curl.
use crate::backend::Backend;
use crate::case::Case;
use crate::domain::{Domain, free_port};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A running web appliance in front of a folder of its own.
pub(crate) struct Web {
    pub(crate) domain: Domain,
    pub(crate) url: String,
    pub(crate) port: u16,
    /// Kept until the end of the case.
    _folder: tempfile::TempDir,
}

impl Web {
    /// Serves what `fill` puts into the folder, with a configuration for the appliance.
    pub(crate) fn serve(
        backend: Backend,
        config: &str,
        fill: impl Fn(&Path) -> Result<()>,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let site = folder.path().join("site");
        fs::create_dir(&site)?;
        fill(&site)?;
        let config_path = folder.path().join("web.toml");
        fs::write(&config_path, config)?;
        let port = free_port();
        let arguments = [
            "web",
            "--site",
            &site.display().to_string(),
            "--config",
            &config_path.display().to_string(),
            "--publish",
            &format!("127.0.0.1:{port}:80"),
        ];
        let mut domain = Domain::start(backend, &arguments)?;
        domain.wait_for("serving")?;
        Ok(Self { domain, url: format!("http://127.0.0.1:{port}"), port, _folder: folder })
    }

    /// The small site that most cases ask for.
    pub(crate) fn small(backend: Backend) -> Result<Self> {
        Self::serve(backend, "", small_site)
    }

    /// Asks with curl, which gets the extra arguments.
    pub(crate) fn curl(&self, path: &str, arguments: &[&str]) -> Result<Answer> {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--include", "--max-time", "60", "--path-as-is"])
            .args(arguments)
            .arg(format!("{}{path}", self.url))
            .output()
            .context("running curl")?;
        let error = String::from_utf8_lossy(&output.stderr);
        Answer::parse(&output.stdout).with_context(|| format!("curl {path}: {error}"))
    }
}

pub(crate) fn small_site(site: &Path) -> Result<()> {
    fs::create_dir(site.join("dir"))?;
    let files: [(&str, &[u8]); 9] = [
        ("index.html", b"<!doctype html><title>t</title>home"),
        ("a.txt", b"0123456789"),
        ("dir/index.html", b"<p>dir"),
        ("dir/b.txt", b"b"),
        ("style.css", b"body{}/* plain */"),
        ("style.css.gz", b"gzip bytes"),
        ("style.css.br", b"brotli bytes"),
        ("404.html", b"<p>custom not found"),
        ("sp ace \u{e4}.txt", b"spaced"),
    ];
    for (name, content) in files {
        fs::write(site.join(name), content)?;
    }
    let big: Vec<u8> = (0..3_u32 << 20).map(pattern).collect();
    fs::write(site.join("big.bin"), big)?;
    Ok(())
}

/// Byte `i` of big files.
pub(crate) fn pattern(i: u32) -> u8 {
    i.wrapping_mul(2_654_435_761).to_le_bytes()[3]
}

/// One response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").context("no response")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let body = bytes[end + 4..].to_vec();
        let mut lines = head.split("\r\n");
        let status_line = lines.next().context("no status line")?;
        let status = status_line.split(' ').nth(1).context("no status")?.parse()?;
        if status == 100 {
            return Self::parse(&body);
        }
        let split = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Ok(Self { status, headers: lines.filter_map(split).collect(), body })
    }

    /// The value of a header, empty if absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
}

/// One row of the matrix: a request, and what the answer must be.
struct Row {
    name: &'static str,
    path: &'static str,
    curl: &'static [&'static str],
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: Option<&'static [u8]>,
}

impl Row {
    const fn new(name: &'static str, path: &'static str, status: u16) -> Self {
        Self { name, path, curl: &[], status, headers: &[], body: None }
    }

    const fn curl(mut self, curl: &'static [&'static str]) -> Self {
        self.curl = curl;
        self
    }

    const fn headers(mut self, headers: &'static [(&'static str, &'static str)]) -> Self {
        self.headers = headers;
        self
    }

    const fn body(mut self, body: &'static [u8]) -> Self {
        self.body = Some(body);
        self
    }

    fn check(&self, web: &Web) -> Result<()> {
        let answer = web.curl(self.path, self.curl)?;
        ensure!(answer.status == self.status, "{}: {answer:?}", self.name);
        for (name, value) in self.headers {
            ensure!(answer.header(name) == *value, "{}: {name}: {answer:?}", self.name);
        }
        let body_fits = self.body.is_none_or(|body| body == answer.body);
        ensure!(body_fits, "{}: body: {answer:?}", self.name);
        Ok(())
    }
}

const MATRIX: &[Row] = &[
    Row::new("index", "/", 200)
        .headers(&[("content-type", "text/html; charset=utf-8"), ("content-length", "35")])
        .body(b"<!doctype html><title>t</title>home"),
    Row::new("file", "/a.txt", 200)
        .headers(&[("accept-ranges", "bytes"), ("server", "paravane")])
        .body(b"0123456789"),
    Row::new("query is ignored", "/a.txt?x=1", 200).body(b"0123456789"),
    Row::new("head", "/a.txt", 200)
        .curl(&["--head"])
        .headers(&[("content-length", "10")])
        .body(b""),
    Row::new("sub-folder index", "/dir/", 200).body(b"<p>dir"),
    Row::new("folder redirect", "/dir", 301).headers(&[("location", "/dir/")]),
    Row::new("percent-decoding", "/sp%20ace%20%C3%A4.txt", 200).body(b"spaced"),
    Row::new("not found", "/nothing", 404).body(b"<p>custom not found"),
    Row::new("escape", "/../../../etc/passwd", 400),
    Row::new("escape, encoded", "/%2e%2e/%2e%2e/etc/passwd", 400),
    Row::new("escape, encoded slash", "/..%2f..%2fetc/passwd", 400),
    Row::new("nul", "/a.txt%00", 400),
    Row::new("bad percent", "/%zz", 400),
    Row::new("range", "/a.txt", 206)
        .curl(&["--range", "2-4"])
        .headers(&[("content-range", "bytes 2-4/10"), ("content-length", "3")])
        .body(b"234"),
    Row::new("range to the end", "/a.txt", 206).curl(&["--range", "7-"]).body(b"789"),
    Row::new("range from the end", "/a.txt", 206).curl(&["--range", "-2"]).body(b"89"),
    Row::new("range too far", "/a.txt", 416)
        .curl(&["--range", "10-"])
        .headers(&[("content-range", "bytes */10")]),
    Row::new("gzip", "/style.css", 200)
        .curl(&["--header", "Accept-Encoding: gzip"])
        .headers(&[("content-encoding", "gzip"), ("vary", "accept-encoding")])
        .body(b"gzip bytes"),
    Row::new("brotli is preferred", "/style.css", 200)
        .curl(&["--header", "Accept-Encoding: gzip, br"])
        .headers(&[("content-encoding", "br")])
        .body(b"brotli bytes"),
    Row::new("encoding refused", "/style.css", 200)
        .curl(&["--header", "Accept-Encoding: gzip;q=0, br;q=0"])
        .headers(&[("content-encoding", ""), ("content-type", "text/css; charset=utf-8")])
        .body(b"body{}/* plain */"),
    Row::new("method", "/a.txt", 405)
        .curl(&["--request", "DELETE"])
        .headers(&[("allow", "GET, HEAD, OPTIONS")]),
];

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("web::matrix", |backend| {
            let web = Web::small(backend)?;
            MATRIX.iter().try_for_each(|row| row.check(&web))?;
            let long = web.curl(&"/long".repeat(5_000), &[])?;
            ensure!(long.status == 414, "{long:?}");
            web.domain.stop()?.expect(0, &["GET /a.txt HTTP/1.1\" 200 10"])
        })
        .needs("curl"),
        Case::new("web::conditional", conditional).needs("curl"),
        Case::new("web::multi-range", multi_range).needs("curl"),
        Case::new("web::big-file", big_file).needs("curl"),
        Case::new("web::keep-alive", keep_alive).needs("curl"),
        Case::new("web::metrics", metrics).needs("curl"),
        Case::new("web::unknown-setting", unknown_setting),
    ]
}

fn conditional(backend: Backend) -> Result<()> {
    let web = Web::small(backend)?;
    let first = web.curl("/a.txt", &[])?;
    let (etag, date) = (first.header("etag"), first.header("last-modified"));
    ensure!(!etag.is_empty() && !date.is_empty(), "{first:?}");
    let check = |header: String, status| {
        let answer = web.curl("/a.txt", &["--header", &header])?;
        ensure!(answer.status == status, "{header}: {answer:?}");
        ensure!(status != 304 || answer.body.is_empty(), "{header}: a 304 has no body");
        Ok(())
    };
    check(format!("If-None-Match: {etag}"), 304)?;
    check("If-None-Match: \"other\"".into(), 200)?;
    check("If-None-Match: *".into(), 304)?;
    check(format!("If-Modified-Since: {date}"), 304)?;
    check("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT".into(), 200)?;
    check("If-Match: \"other\"".into(), 412)?;
    check(format!("If-Match: {etag}"), 200)?;
    let range = web.curl("/a.txt", &["--range", "0-0", "--header", "If-Range: \"other\""])?;
    ensure!(range.status == 200, "{range:?}");
    Ok(())
}

fn multi_range(backend: Backend) -> Result<()> {
    let web = Web::small(backend)?;
    let answer = web.curl("/a.txt", &["--range", "0-1,8-9"])?;
    ensure!(answer.status == 206, "{answer:?}");
    let kind = answer.header("content-type");
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").context("its type")?;
    let body = String::from_utf8(answer.body.clone())?;
    ensure!(body.contains("Content-Range: bytes 0-1/10\r\n\r\n01\r\n"), "{body}");
    ensure!(body.contains("Content-Range: bytes 8-9/10\r\n\r\n89\r\n"), "{body}");
    ensure!(body.trim_end().ends_with(&format!("--{}--", boundary.trim_matches('"'))), "{body}");
    Ok(())
}

fn big_file(backend: Backend) -> Result<()> {
    let web = Web::small(backend)?;
    let answer = web.curl("/big.bin", &[])?;
    let expected = (0..3_u32 << 20).map(pattern);
    ensure!(answer.body.iter().copied().eq(expected), "{} bytes", answer.body.len());
    let answer = web.curl("/big.bin", &["--range", "1048570-2097160"])?;
    ensure!(answer.body.iter().copied().eq((1_048_570..2_097_161).map(pattern)), "range");
    Ok(())
}

fn keep_alive(backend: Backend) -> Result<()> {
    let web = Web::small(backend)?;
    let urls: Vec<String> = (0..50).map(|_| format!("{}/a.txt", web.url)).collect();
    let output = Command::new("curl")
        .args(["--silent", "--verbose", "--max-time", "60"])
        .args(&urls)
        .output()
        .context("running curl")?;
    ensure!(output.stdout == b"0123456789".repeat(50), "fifty bodies");
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(log.matches("Connected to").count() == 1, "one connection:\n{log}");
    Ok(())
}

fn metrics(backend: Backend) -> Result<()> {
    let web = Web::small(backend)?;
    web.curl("/a.txt", &[])?;
    let answer = web.curl("/.paravane/metrics", &[])?;
    let text = String::from_utf8(answer.body)?;
    ensure!(answer.status == 200 && text.ends_with("# EOF\n"), "{text}");
    let off = Web::serve(backend, "metrics = false\n", small_site)?;
    ensure!(off.curl("/.paravane/metrics", &[])?.status == 404, "switched off");
    Ok(())
}

fn unknown_setting(backend: Backend) -> Result<()> {
    let folder = tempfile::tempdir()?;
    small_site(folder.path())?;
    let config = folder.path().join("web.toml");
    fs::write(&config, "no_such_key = 1\n")?;
    let (site, config) = (folder.path().display().to_string(), config.display().to_string());
    let ended = Domain::run(backend, &["web", "--site", &site, "--config", &config])?;
    ensure!(ended.status != 0 && ended.text.contains("no_such_key"), "{ended:?}");
    Ok(())
}
