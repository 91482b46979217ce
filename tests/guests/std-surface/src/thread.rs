//! Threads, of which there is one.
use crate::Check;
use std::io::ErrorKind;
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::thread::{self, Builder};

pub(crate) const CHECKS: &[Check] = &[
    ("spawn fails", spawn_fails),
    ("pthread_create fails", pthread_create_fails),
    ("this thread", this_thread),
    ("pthread attributes", attributes),
];

fn spawn_fails() {
    let error = Builder::new().stack_size(64 << 10).spawn(|| {}).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
}

extern "C" fn unreachable_thread(_: *mut libc::c_void) -> *mut libc::c_void {
    unreachable!("no thread is ever started")
}

fn pthread_create_fails() {
    let mut thread = 0;
    // SAFETY: the call gets what C allows; the threads that the others name do not exist.
    unsafe {
        let status = libc::pthread_create(&raw mut thread, null(), unreachable_thread, null_mut());
        assert_eq!((status, thread), (libc::EAGAIN, 0));
        assert_eq!(libc::pthread_join(thread, null_mut()), libc::ESRCH);
        assert_eq!(libc::pthread_detach(thread), libc::ESRCH);
    }
}

fn this_thread() {
    assert_eq!(thread::current().name(), Some("main"));
    assert_eq!(thread::current().id(), thread::current().id());
    assert_eq!(thread::available_parallelism().unwrap().get(), 1);
    thread::yield_now();
    // SAFETY: these take no memory but a constant.
    unsafe {
        assert_ne!(libc::pthread_self(), 0);
        assert_eq!(libc::pthread_setname_np(libc::pthread_self(), c"x".as_ptr()), libc::ENOSYS);
    }
}

fn attributes() {
    let (mut base, mut size) = (null_mut(), 0);
    // SAFETY: all pointers are to variables here.
    unsafe {
        let mut attributes = zeroed();
        assert_eq!(libc::pthread_attr_init(&raw mut attributes), 0);
        assert_eq!(libc::pthread_attr_setstacksize(&raw mut attributes, 1 << 20), 0);
        let stack =
            libc::pthread_attr_getstack(&raw const attributes, &raw mut base, &raw mut size);
        assert_eq!((stack, base, size), (libc::ENOSYS, null_mut(), 0));
        let guard = libc::pthread_attr_getguardsize(&raw const attributes, &raw mut size);
        assert_eq!((guard, size), (libc::ENOSYS, 0));
        let this = libc::pthread_self();
        assert_eq!(libc::pthread_getattr_np(this, &raw mut attributes), libc::ENOSYS);
        assert_eq!(libc::pthread_attr_destroy(&raw mut attributes), 0);
    }
}
