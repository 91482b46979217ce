//! UDP sockets.
use super::error::NetError;
use super::with_stack;
use core::future::poll_fn;
use core::net::SocketAddr;
use core::task::{Context, Poll};
use paravane_netstack::{Datagram, UdpId};

/// A UDP port. Dropping it closes the port.
#[derive(Debug)]
pub struct UdpSocket {
    id: UdpId,
    port: u16,
}

impl UdpSocket {
    /// Opens `port`, or a free one for 0.
    ///
    /// # Errors
    /// The port is in use, or there is no network.
    pub fn bind(port: u16) -> Result<Self, NetError> {
        let wanted = Some(port).filter(|port| *port != 0);
        let (id, port) = with_stack(|stack| {
            let id = stack.udp_bind(wanted)?;
            Ok::<_, NetError>((id, stack.udp_port(id).unwrap_or(port)))
        })??;
        Ok(Self { id, port })
    }

    /// The port.
    #[must_use]
    pub fn local_port(&self) -> u16 {
        self.port
    }

    /// Sends a datagram to `to`. It may get lost, like any.
    ///
    /// # Errors
    /// It cannot be sent.
    pub fn send_to(&self, data: &[u8], to: SocketAddr) -> Result<(), NetError> {
        Ok(with_stack(|stack| stack.udp_send(self.id, to, data))??)
    }

    /// Waits for a datagram.
    ///
    /// # Errors
    /// The network device failed.
    pub async fn recv_from(&self) -> Result<Datagram, NetError> {
        poll_fn(|cx| self.poll_recv_from(cx)).await
    }

    /// As [`recv_from`](Self::recv_from), for hand-written futures.
    pub fn poll_recv_from(&self, cx: &mut Context<'_>) -> Poll<Result<Datagram, NetError>> {
        with_stack(|stack| stack.udp_poll_recv(self.id, cx))?.map_err(NetError::Udp)
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        // Without a stack the port is closed anyway.
        let _ = with_stack(|stack| stack.udp_close(self.id));
    }
}
