//! A TAP interface whose frames a case sends and receives itself.
//!
//! It has no offloads: what the guest left to its device, the kernel completes and cuts before it gets
//! here, as for a wire.
use crate::namespace::Namespace;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

/// Frames that wait for the case to look at them.
const QUEUE_LEN: &str = "10000";

/// Largest frame, bytes: no TAP of a case has a larger MTU than 1500.
const FRAME_LEN_MAX: usize = 1600;

/// The case's end of an interface.
#[derive(Debug)]
pub(super) struct Tap(File);

impl Tap {
    /// Makes the interface `name` in a namespace, and sets it up.
    pub(super) fn open(namespace: &Namespace, name: &str) -> Result<Self> {
        let tap = namespace.inside(|| Self::attach(name))?;
        namespace.run(&["ip", "link", "set", name, "txqueuelen", QUEUE_LEN, "up"])?;
        Ok(tap)
    }

    fn attach(name: &str) -> Result<Self> {
        let flags = libc::O_NONBLOCK;
        let file = File::options().read(true).write(true).custom_flags(flags).open("/dev/net/tun");
        let file = file.context("opening /dev/net/tun")?;
        // SAFETY: `ifreq` is plain data for which zeroes are valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI).try_into()?;
        // SAFETY: TUNSETIFF reads and writes an `ifreq`, which outlives the call.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        ensure!(result == 0, "TUNSETIFF: {}", std::io::Error::last_os_error());
        Ok(Self(file))
    }

    /// Sends a frame; one that nobody takes, or that is no frame, is lost.
    pub(super) fn send(&self, frame: &[u8]) -> Result<()> {
        match (&self.0).write(frame) {
            Ok(_) => Ok(()),
            Err(e) if is_loss(&e) => Ok(()),
            Err(e) => Err(e).context("sending a frame"),
        }
    }

    /// A frame that is there now.
    pub(super) fn try_receive(&self) -> Result<Option<Vec<u8>>> {
        let mut frame = vec![0; FRAME_LEN_MAX];
        match (&self.0).read(&mut frame) {
            Ok(len) => {
                frame.truncate(len);
                Ok(Some(frame))
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e).context("receiving a frame"),
        }
    }

    /// The next frame, if there is one until `deadline`.
    pub(super) fn receive(&self, deadline: Instant) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(frame) = self.try_receive()? {
                return Ok(Some(frame));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            wait([self.0.as_raw_fd()], left)?;
        }
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// What a wire loses: a frame for which there is no room, or a runt.
fn is_loss(error: &std::io::Error) -> bool {
    let no_room = matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM));
    no_room || matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::InvalidInput)
}

/// Waits until one of the descriptors can be read, for `timeout` at most.
pub(super) fn wait<const N: usize>(descriptors: [RawFd; N], timeout: Duration) -> Result<()> {
    let mut polled = descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().try_into()?,
        tv_nsec: timeout.subsec_nanos().into(),
    };
    let count = N.try_into()?;
    // SAFETY: the array and the time outlive the call; there is no signal mask.
    let result =
        unsafe { libc::ppoll(polled.as_mut_ptr(), count, &raw const timeout, std::ptr::null()) };
    ensure!(result >= 0, "ppoll: {}", std::io::Error::last_os_error());
    Ok(())
}
