//! Guest that measurements put load on: `net-load SINK SOURCE ECHO` serves three TCP ports.
//!
//! - SINK takes bytes until their end, answers with their number (8 bytes, big-endian) and closes;
//! - SOURCE sends zeroes until the client goes;
//! - ECHO returns what comes, as it comes.
//!
//! `net-load-native` of the benchmarks is the same as a native program.
use bytes::Bytes;
use paravane_abi::device::DeviceKind;
use paravane_abi::manifest::{Manifest, ManifestDevice};
use paravane_kernel::net::{NetError, TcpListener, TcpStream, wait_configured};
use paravane_kernel::{run, stop_requested, task};
use std::future::{Future, poll_fn};

paravane_libc::image!(Manifest::new(
    "net-load",
    8 << 20,
    &[ManifestDevice { kind: DeviceKind::Net as u32, required: 1 }]
));

/// What is handed over for sending at a time, or echoed at most, bytes.
const CHUNK_LEN: usize = 256 << 10;

static ZEROES: [u8; CHUNK_LEN] = [0; CHUNK_LEN];

fn main() {
    let ports: Vec<u16> = std::env::args().skip(1).map_while(|word| word.parse().ok()).collect();
    let [sink_port, source_port, echo_port] = ports[..] else {
        panic!("three ports are wanted: SINK SOURCE ECHO");
    };
    run(async {
        serve(sink_port, sink)?;
        serve(source_port, source)?;
        serve(echo_port, echo)?;
        println!("address {}", wait_configured().await?);
        stop_requested().await;
        Ok::<_, NetError>(())
    })
    .expect("the network works");
}

/// Has every connection to a port served.
fn serve<F>(port: u16, service: fn(TcpStream) -> F) -> Result<(), NetError>
where
    F: Future<Output = Result<(), NetError>> + 'static,
{
    let listener = TcpListener::bind(port)?;
    task::spawn(async move {
        while let Ok(stream) = listener.accept().await {
            // A client that goes ends its connection, and nothing else.
            task::spawn(async move { service(stream).await.ok() });
        }
    });
    Ok(())
}

async fn sink(mut stream: TcpStream) -> Result<(), NetError> {
    let mut count = 0u64;
    loop {
        // The bytes are looked at where they are, as a native program looks at them in its buffer.
        match poll_fn(|cx| stream.poll_read_with(cx, <[u8]>::len)).await? {
            0 => break,
            len => count += len as u64,
        }
    }
    stream.write_all(&count.to_be_bytes()).await?;
    stream.close().await
}

async fn source(mut stream: TcpStream) -> Result<(), NetError> {
    loop {
        let mut chunk = Bytes::from_static(&ZEROES);
        while !chunk.is_empty() {
            poll_fn(|cx| stream.poll_write_bytes(cx, &mut chunk)).await?;
        }
    }
}

async fn echo(mut stream: TcpStream) -> Result<(), NetError> {
    let mut buffer = vec![0; CHUNK_LEN];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.close().await,
            len => stream.write_all(&buffer[..len]).await?,
        }
    }
}
