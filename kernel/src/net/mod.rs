//! The network: TCP, UDP and name resolution for tasks.
//!
//! One interface, the first network device of the machine. Its address is the operator's, or comes
//! from DHCP. The protocols are those of `paravane-netstack`; here they meet the driver, the
//! executor and the tasks.
mod error;
mod interface;
mod port;
mod tcp;
mod udp;

pub use error::NetError;
pub use tcp::{TcpListener, TcpStream};
pub use udp::UdpSocket;

use crate::device::devices;
use crate::executor::register_poller;
use crate::state::kernel;
use crate::time::timeout;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{OnceCell, RefCell};
use core::future::poll_fn;
use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use interface::{Interface, NetPoller};
use paravane_abi::device::DeviceKind;
use paravane_netstack::{QueryId, Stack};

/// The interface, once it was started.
pub(crate) struct State {
    interface: OnceCell<Result<Rc<RefCell<Interface>>, NetError>>,
}

impl State {
    pub(crate) const fn new() -> Self {
        Self { interface: OnceCell::new() }
    }
}

/// Takes the network device into use. Everything else here does that too when it is first needed.
///
/// # Errors
/// There is no network device, or it cannot be used.
pub fn start() -> Result<(), NetError> {
    interface().map(drop)
}

fn interface() -> Result<&'static Rc<RefCell<Interface>>, NetError> {
    kernel().net.interface.get_or_init(attach).as_ref().map_err(|error| *error)
}

fn attach() -> Result<Rc<RefCell<Interface>>, NetError> {
    let (index, device) = devices(DeviceKind::Net).next().ok_or(NetError::NoDevice)?;
    let interface = Interface::attach(index, device).map_err(|error| {
        log::error!("the network device cannot be used: {error:?}");
        NetError::DeviceFailed
    })?;
    let interface = Rc::new(RefCell::new(interface));
    register_poller(Box::new(NetPoller::new(interface.clone())));
    Ok(interface)
}

/// Lets `action` use the stack. What it leaves to send is sent when all tasks that are ready now
/// have run.
fn with_stack<T>(action: impl FnOnce(&mut Stack) -> T) -> Result<T, NetError> {
    Ok(action(interface()?.borrow_mut().stack()?))
}

/// How long DHCP has for its answer where there is an IPv6 address already, which comes without asking.
const DHCP_PATIENCE: Duration = Duration::from_secs(3);

/// Waits until the interface has an address, and returns it: that of IPv4, if DHCP gives one within 3 s.
/// The network's server of names is known by then.
///
/// # Errors
/// There is no usable network device.
pub async fn wait_configured() -> Result<IpAddr, NetError> {
    start()?;
    // Without an answer there may be an IPv6 address all the same.
    let _ = timeout(DHCP_PATIENCE, wait_route(Ipv4Addr::UNSPECIFIED.into())).await;
    poll_fn(|cx| match with_stack(|stack| stack.poll_configured(cx)) {
        Ok(poll) => poll.map(Ok),
        Err(error) => core::task::Poll::Ready(Err(error)),
    })
    .await
}

/// Waits until it is clear whether `remote` can be spoken to.
async fn wait_route(remote: IpAddr) -> Result<(), NetError> {
    start()?;
    poll_fn(|cx| match with_stack(|stack| stack.poll_route(remote, cx)) {
        Ok(poll) => poll.map(Ok),
        Err(error) => core::task::Poll::Ready(Err(error)),
    })
    .await
}

/// The address of the interface, once it has one.
#[must_use]
pub fn local_address() -> Option<IpAddr> {
    with_stack(|stack| stack.address()).ok().flatten()
}

/// The addresses of a host, by DNS. A name that is an address stands for itself.
///
/// # Errors
/// The name is unknown, or could not be looked up.
pub async fn resolve(name: &str) -> Result<Vec<IpAddr>, NetError> {
    if let Ok(address) = name.parse() {
        return Ok(Vec::from([address]));
    }
    wait_configured().await?;
    let mut query = Query(Some(with_stack(|stack| stack.start_query(name))??));
    poll_fn(|cx| match with_stack(|stack| stack.poll_query(&mut query.0, cx)) {
        Ok(poll) => poll.map_err(NetError::from),
        Err(error) => core::task::Poll::Ready(Err(error)),
    })
    .await
}

/// A query that ends when nobody waits for it any more.
struct Query(Option<QueryId>);

impl Drop for Query {
    fn drop(&mut self) {
        if let Some(id) = self.0.take() {
            // Without a stack there is no query either.
            let _ = with_stack(|stack| stack.cancel_query(id));
        }
    }
}
