//! What a guest has not: each function fails, and says so.
use crate::{Check, assert_fails};
use std::ffi::CStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::mem::zeroed;
use std::net::{TcpStream, ToSocketAddrs};
use std::ptr::{null, null_mut};

pub(crate) const CHECKS: &[Check] = &[
    ("files", files),
    ("file functions", file_functions),
    ("mappings", mappings),
    ("sockets", sockets),
    ("names", names),
    ("scheduling", scheduling),
    ("dynamic linking", dynamic_linking),
];

fn files() {
    let check = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    check(File::open("/etc/passwd").map(drop).unwrap_err());
    check(File::create("/tmp/x").map(drop).unwrap_err());
    check(fs::read("/etc/passwd").map(drop).unwrap_err());
    check(fs::metadata("/").map(drop).unwrap_err());
    check(fs::read_link("/").map(drop).unwrap_err());
    check(fs::canonicalize("/").map(drop).unwrap_err());
    check(std::env::current_dir().map(drop).unwrap_err());
    check(std::env::current_exe().map(drop).unwrap_err());
}

fn file_functions() {
    // SAFETY: all pointers are to variables here or constants.
    unsafe {
        assert_fails(libc::open64(c"/".as_ptr(), libc::O_RDONLY), libc::ENOSYS);
        assert_fails(libc::stat64(c"/".as_ptr(), &mut zeroed()), libc::ENOSYS);
        assert_fails(libc::fstat64(1, &mut zeroed()), libc::ENOSYS);
        assert_fails(libc::lseek64(1, 0, libc::SEEK_SET), libc::ENOSYS);
        assert_fails(libc::dup(1), libc::ENOSYS);
        assert_fails(libc::fcntl(1, libc::F_GETFD), libc::ENOSYS);
    }
}

fn mappings() {
    // SAFETY: nothing is mapped, and the page named is none.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page = libc::mmap64(null_mut(), 4096, libc::PROT_READ, flags, -1, 0);
        assert_eq!(page, libc::MAP_FAILED);
        assert_fails(libc::munmap(null_mut(), 4096), libc::ENOSYS);
        assert_fails(libc::mprotect(null_mut(), 4096, libc::PROT_READ), libc::ENOSYS);
    }
}

fn sockets() {
    let address = "127.0.0.1:80";
    assert_eq!(TcpStream::connect(address).map(drop).unwrap_err().kind(), ErrorKind::Unsupported);
    // SAFETY: the address is not looked at.
    unsafe {
        assert_fails(libc::connect(3, null(), 0), libc::ENOSYS);
    }
}

fn names() {
    let error = ("example.org", 80).to_socket_addrs().map(drop).unwrap_err();
    assert!(error.to_string().contains("kernel's"), "{error}");
    // SAFETY: the text is a constant of the C library.
    let text = unsafe { CStr::from_ptr(libc::gai_strerror(libc::EAI_FAIL)) };
    assert!(!text.is_empty());
}

fn scheduling() {
    // SAFETY: all pointers are to variables here or null.
    unsafe {
        let size = size_of::<libc::cpu_set_t>();
        assert_fails(libc::sched_getaffinity(0, size, &mut zeroed()), libc::ENOSYS);
        assert_fails(libc::sigaltstack(null(), null_mut()), libc::ENOSYS);
        assert_fails(libc::pause(), libc::ENOSYS);
    }
}

fn dynamic_linking() {
    // SAFETY: the name is a constant.
    assert!(unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"malloc".as_ptr()) }.is_null());
    // SAFETY: the callback is never called, as there are no objects.
    assert_eq!(unsafe { libc::dl_iterate_phdr(None, null_mut()) }, 0);
}
