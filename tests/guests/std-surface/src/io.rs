//! The console, and descriptors that are not the console.
use crate::{Check, assert_fails};
use std::env;
use std::io::{self, IoSlice, Read, Write};

pub(crate) const CHECKS: &[Check] = &[
    ("println", stdout),
    ("eprintln", stderr),
    ("vectored write", vectored),
    ("stdin is empty", stdin),
    ("bad descriptors", bad_descriptors),
    ("poll", poll),
    ("environment is empty", environment),
];

fn stdout() {
    print!("ok print, ");
    println!("then {:?}", [1, 2]);
    let text = b"ok write\n";
    // SAFETY: the buffer is a constant.
    let written = unsafe { libc::write(1, text.as_ptr().cast(), text.len()) };
    assert_eq!(written, 9);
}

fn stderr() {
    eprintln!("ok eprintln to stderr");
}

fn vectored() {
    io::stdout().flush().unwrap();
    let parts = [IoSlice::new(b"ok "), IoSlice::new(b""), IoSlice::new(b"writev\n")];
    // SAFETY: `IoSlice` is a `struct iovec`; all are borrowed for the call.
    let written = unsafe { libc::writev(1, parts.as_ptr().cast(), 3) };
    assert_eq!(written, 10);
    // SAFETY: the count is refused before the pointer is looked at.
    assert_fails(
        i64::try_from(unsafe { libc::writev(1, parts.as_ptr().cast(), -1) }).unwrap(),
        libc::EINVAL,
    );
}

fn stdin() {
    let mut text = String::new();
    assert_eq!(io::stdin().read_to_string(&mut text).unwrap(), 0);
}

fn bad_descriptors() {
    let mut byte = 0_u8;
    let byte = (&raw mut byte).cast::<libc::c_void>();
    // SAFETY: one byte is lent to each call.
    unsafe {
        for fd in [-1, 3, 1000] {
            assert_fails(i64::try_from(libc::read(fd, byte, 1)).unwrap(), libc::EBADF);
            assert_fails(i64::try_from(libc::write(fd, byte, 1)).unwrap(), libc::EBADF);
            assert_fails(libc::close(fd), libc::EBADF);
        }
        assert_fails(i64::try_from(libc::write(0, byte, 1)).unwrap(), libc::EBADF);
        assert_fails(i64::try_from(libc::read(1, byte, 1)).unwrap(), libc::EBADF);
        assert_fails(libc::close(1), libc::ENOSYS);
    }
}

fn poll() {
    let entry = |fd| libc::pollfd { fd, events: libc::POLLIN | libc::POLLOUT, revents: -1 };
    let mut fds = [entry(0), entry(1), entry(2), entry(3), entry(-1)];
    // SAFETY: there are five entries.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), 5, -1) };
    let found = fds.map(|fd| fd.revents);
    let expect = [libc::POLLIN, libc::POLLOUT, libc::POLLOUT, libc::POLLNVAL, 0];
    assert_eq!((ready, found), (4, expect));
}

fn environment() {
    assert!(env::var_os("PATH").is_none() && env::var_os("RUST_BACKTRACE").is_none());
}
