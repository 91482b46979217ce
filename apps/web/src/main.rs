//! The web appliance: serves a static site from a tar archive on the block device `site`.
//!
//! What HTTP is about is in `paravane-http`; this program joins it to the kernel.
#![forbid(unsafe_code)]
mod platform;

use paravane_http::{BlockSource, Config, ConfigError, IndexError, Server, index};
use paravane_kernel as kernel;
use paravane_kernel::block::Disk;
use paravane_kernel::net::{NetError, TcpListener};
use paravane_libc::abi::device::DeviceKind;
use paravane_libc::abi::manifest::{Manifest, ManifestDevice};
use platform::{KernelClock, SiteDisk, Stream};
use std::fmt;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;

const fn required(kind: DeviceKind) -> ManifestDevice {
    ManifestDevice { kind: kind as u32, required: 1 }
}

paravane_libc::image!(Manifest::new(
    "web",
    8 << 20,
    &[required(DeviceKind::Net), required(DeviceKind::Block)]
));

/// Exit status for a site, network or configuration that cannot be used.
const STATUS_CANNOT_START: u8 = 1;

/// Why the appliance does not serve.
enum StartError {
    Arguments,
    Config(ConfigError),
    NoSite,
    Site(IndexError),
    Network(NetError),
    Listen(u16, NetError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arguments => f.write_str("the web appliance takes no arguments; use --config"),
            Self::Config(error) => error.fmt(f),
            Self::NoSite => {
                f.write_str("there is no disk \"site\"; name a directory or a tar with --site")
            }
            Self::Site(error) => error.fmt(f),
            Self::Network(error) => write!(f, "the network cannot be used: {error}"),
            Self::Listen(port, error) => write!(f, "port {port} cannot be listened on: {error}"),
        }
    }
}

type WebServer = Server<KernelClock, SiteDisk>;

fn main() -> ExitCode {
    match kernel::run(serve()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::from(STATUS_CANNOT_START)
        }
    }
}

/// Serves until the operator asks to stop, then ends the connections in order.
async fn serve() -> Result<(), StartError> {
    if std::env::args().len() > 1 {
        return Err(StartError::Arguments);
    }
    let config = Config::parse(kernel::config()).map_err(StartError::Config)?;
    let port = config.port;
    let listener = TcpListener::bind(port).map_err(|error| StartError::Listen(port, error))?;
    let server = server(config).await?;
    kernel::task::spawn(Rc::clone(&server).write_access_log());
    kernel::task::spawn(Rc::clone(&server).rest_idle_connections());
    let address = kernel::net::wait_configured().await.map_err(StartError::Network)?;
    let site = server.site();
    let (files, bytes) = (site.file_count(), site.total_len());
    let address = SocketAddr::new(address, port);
    log::info!("serving {files} files, {bytes} bytes at http://{address}/");
    kernel::task::spawn(accept(listener, Rc::clone(&server)));
    kernel::stop_requested().await;
    log::info!("stopping: {} connections are open", server.connection_count());
    server.drain().await;
    Ok(())
}

/// Indexes the site and makes its server.
async fn server(config: Config) -> Result<Rc<WebServer>, StartError> {
    let disk = SiteDisk::new(Disk::open("site").ok_or(StartError::NoSite)?);
    let site = index(disk.clone()).await.map_err(StartError::Site)?;
    match site.skipped_count() {
        0 => {}
        skipped => log::warn!("{skipped} entries of the site cannot be served and were left out"),
    }
    if site.file_count() == 0 {
        log::warn!("the site of {} bytes has no files", disk.len());
    }
    let memory_len = kernel::memory::stats().capacity as u64;
    let log = Box::new(kernel::console::write);
    Ok(Server::new(config, memory_len, site, disk, KernelClock, log))
}

/// Takes connections for as long as there is a network.
async fn accept(listener: TcpListener, server: Rc<WebServer>) {
    loop {
        match listener.accept().await {
            Ok(stream) => drop(kernel::task::spawn(Rc::clone(&server).serve(Stream(stream)))),
            // The client was gone before its connection was taken.
            Err(NetError::Tcp(_)) => {}
            Err(error) => return log::error!("no more connections can be taken: {error}"),
        }
    }
}
