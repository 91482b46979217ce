//! The web server, with a client that sends anything, in parts of any size: twice, so that files are
//! in memory the second time and plain requests get there without hyper.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use paravane_fuzz::web::{Connection, MemoryDisk, VirtualClock};
use paravane_http::{Config, Server, index};
use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// No client is waited for longer, whatever it does; the default timeouts are below that, together.
const SECONDS_MAX: usize = 600;

/// A part of what the client sends: common words, so that requests come about, or anything.
#[derive(Arbitrary, Debug)]
enum Part {
    Raw(Vec<u8>),
    Get {
        path: u8,
    },
    Range {
        first: u16,
        last: Option<u16>,
    },
    Header {
        name: u8,
        value: Vec<u8>,
    },
    End,
    /// What follows arrives later.
    Cut,
}

const PATHS: [&str; 8] =
    ["/", "/index.html", "/a%2e.txt", "/dir", "/dir/", "/../a", "/.paravane/metrics", "*"];
const NAMES: [&str; 8] = [
    "Host",
    "Connection",
    "Content-Length",
    "Transfer-Encoding",
    "If-None-Match",
    "If-Modified-Since",
    "If-Range",
    "Accept-Encoding",
];

#[derive(Arbitrary, Debug)]
struct Input {
    parts: Vec<Part>,
    hangs_up: bool,
}

fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let files: [(&str, &[u8]); 4] = [
        ("index.html", b"<p>hello"),
        ("a.txt", &[b'a'; 3000]),
        ("a.txt.gz", b"zz"),
        ("dir/index.html", b""),
    ];
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, content).expect("memory takes it");
    }
    builder.into_inner().expect("memory takes it")
}

/// What arrives with each read.
fn bytes(parts: &[Part]) -> Vec<Vec<u8>> {
    let mut reads = vec![Vec::new()];
    for part in parts {
        let text = match part {
            Part::Raw(bytes) => bytes.clone(),
            Part::Get { path } => {
                format!("GET {} HTTP/1.1\r\nHost: a\r\n", PATHS[usize::from(path % 8)]).into()
            }
            Part::Range { first, last } => {
                let last = last.map(|last| last.to_string()).unwrap_or_default();
                format!("Range: bytes={first}-{last}\r\n").into()
            }
            Part::Header { name, value } => {
                [NAMES[usize::from(name % 8)].as_bytes(), b": ", value, b"\r\n"].concat()
            }
            Part::End => b"\r\n".to_vec(),
            Part::Cut => {
                reads.push(Vec::new());
                continue;
            }
        };
        reads.last_mut().expect("never empty").extend(text);
    }
    reads
}

fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a disk in memory keeps nobody waiting"),
    }
}

fuzz_target!(|input: Input| {
    let disk = MemoryDisk(Rc::new(archive()));
    let site = ready(index(disk.clone())).expect("the archive is good");
    let clock = VirtualClock::default();
    let log = Box::new(|_: &[u8]| ());
    let server = Server::new(Config::default(), 16 << 20, site, disk, clock.clone(), log);
    for _ in 0..2 {
        talk(&server, &clock, &input);
    }
});

/// One connection, to its end.
fn talk(server: &Rc<Server<VirtualClock, MemoryDisk>>, clock: &VirtualClock, input: &Input) {
    let to_client = Rc::new(RefCell::new(Vec::new()));
    let connection = Connection {
        to_server: bytes(&input.parts).into(),
        hangs_up: input.hangs_up,
        to_client: to_client.clone(),
    };
    let mut serving = pin!(server.clone().serve(connection));
    let mut context = Context::from_waker(Waker::noop());
    let has_ended = (0..SECONDS_MAX).any(|_| {
        clock.tick();
        serving.as_mut().poll(&mut context).is_ready()
    });
    assert!(has_ended, "a client keeps a connection for ever");
    assert_eq!(server.connection_count(), 0);
    let sent = to_client.take();
    assert!(sent.is_empty() || sent.starts_with(b"HTTP/1."), "{sent:?}");
}
