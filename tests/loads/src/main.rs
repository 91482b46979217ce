//! The loads as a native program, on the file that `IO_STORE` names.
use paravane_loads::{Machine, run};
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// A file of the operating system. Nothing here waits but in a system call.
struct Native(File);

impl Machine for Native {
    async fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(data, offset)
    }

    async fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    async fn flush(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn call(&self) {
        std::hint::black_box(std::os::unix::process::parent_id());
    }
}

fn main() -> io::Result<()> {
    let path =
        std::env::var_os("IO_STORE").ok_or_else(|| io::Error::other("IO_STORE is not set"))?;
    let native = Native(File::options().read(true).write(true).open(path)?);
    let load = pin!(run(&native, std::env::args().skip(1)));
    match load.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::Error::other("a native load waited")),
    }
}
