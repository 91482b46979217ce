//! The native servers: nginx with one worker, and a plain epoll server.
use super::contender::Running;
use super::site::Site;
use super::veth::{self, Veth};
use super::work::{Work, native_service};
use crate::appliance::free_address;
use crate::host::{text, words};
use crate::server::Server;
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};

/// A native program that is going to answer at an address.
struct Program {
    path: PathBuf,
    arguments: Vec<String>,
    address: String,
}

impl Program {
    fn new(work: Work, ip: &str, folder: &Path) -> Result<Self> {
        match work {
            Work::Site(site) => nginx(site, ip, folder),
            Work::Bytes(service) => {
                let (path, arguments, address) = native_service(service, ip);
                Ok(Self { path, arguments, address })
            }
        }
    }
}

pub(crate) fn over_loopback(work: Work, folder: &Path) -> Result<Running> {
    let program = Program::new(work, "127.0.0.1", folder)?;
    let arguments: Vec<_> = program.arguments.iter().map(String::as_str).collect();
    let server = Server::start(&program.path, &arguments, &program.address)?;
    Ok(Running { _wire: None, server })
}

pub(crate) fn over_veth(work: Work, folder: &Path) -> Result<Running> {
    let program = Program::new(work, veth::SERVER_IP, folder)?;
    let (server, veth) = Veth::start(&program.path, &program.arguments, &program.address)?;
    Ok(Running { _wire: Some(veth), server })
}

/// nginx with one worker, which has the files open, uses sendfile, and writes no log.
fn nginx(site: &Site, ip: &str, folder: &Path) -> Result<Program> {
    let address = match ip {
        "127.0.0.1" => free_address()?,
        ip => format!("{ip}:8080"),
    };
    let config = folder.join("nginx.conf");
    let text_of_config = format!(
        "daemon off; worker_processes 1; worker_rlimit_nofile 65536;\n\
         pid {0}/nginx.pid; error_log {0}/error.log;\n\
         events {{ worker_connections 16384; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; sendfile on; tcp_nopush off;\n\
         open_file_cache max=100; client_body_temp_path {0}/t1; proxy_temp_path {0}/t2;\n\
         fastcgi_temp_path {0}/t3; uwsgi_temp_path {0}/t4; scgi_temp_path {0}/t5;\n\
         server {{ listen {address} backlog=65535; root {1}; }} }}\n",
        folder.display(),
        site.folder().display()
    );
    fs::write(&config, text_of_config)?;
    Ok(Program { path: "nginx".into(), arguments: words(&["-c", &text(&config)]), address })
}
