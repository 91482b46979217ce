//! What SQLite asks of an operating system ("OS Interface Object", <https://sqlite.org/c3ref/vfs.html>):
//! time and chance, and files, of which there are none.
use libsqlite3_sys::{
    SQLITE_CANTOPEN, SQLITE_IOERR_DELETE_NOENT, SQLITE_OK, sqlite3_file, sqlite3_filename,
    sqlite3_int64, sqlite3_vfs, sqlite3_vfs_register,
};
use std::ffi::{CStr, c_char, c_int};
use std::hash::{BuildHasher, RandomState};
use std::ptr::null_mut;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest name of a file, bytes.
const PATH_LEN_MAX: c_int = 512;

/// Milliseconds of the Julian day at 1970-01-01.
const UNIX_EPOCH_MS: i64 = 210_866_760_000_000;

/// Milliseconds of a day.
const DAY_MS: f64 = 86_400_000.0;

fn vfs() -> sqlite3_vfs {
    sqlite3_vfs {
        iVersion: 2,
        szOsFile: size_of::<sqlite3_file>().try_into().unwrap_or(c_int::MAX),
        mxPathname: PATH_LEN_MAX,
        pNext: null_mut(),
        zName: c"paravane".as_ptr(),
        pAppData: null_mut(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xDlOpen: None,
        xDlError: None,
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: Some(last_error),
        xCurrentTimeInt64: Some(current_time_ms),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }
}

/// Called by `sqlite3_initialize`.
#[unsafe(no_mangle)]
extern "C" fn sqlite3_os_init() -> c_int {
    // SQLite links it into a list of its own, so it has to stay where it is.
    let vfs = Box::leak(Box::new(vfs()));
    // SAFETY: a complete VFS that is never moved or freed.
    unsafe { sqlite3_vfs_register(vfs, 1) }
}

/// Called by `sqlite3_shutdown`.
#[unsafe(no_mangle)]
extern "C" fn sqlite3_os_end() -> c_int {
    SQLITE_OK
}

unsafe extern "C" fn open(
    _vfs: *mut sqlite3_vfs,
    _name: sqlite3_filename,
    file: *mut sqlite3_file,
    _flags: c_int,
    _out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives room for a file of `szOsFile` bytes. Without methods it does not close it.
    unsafe { (*file).pMethods = std::ptr::null() };
    SQLITE_CANTOPEN
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, _name: *const c_char, _sync: c_int) -> c_int {
    SQLITE_IOERR_DELETE_NOENT
}

unsafe extern "C" fn access(
    _vfs: *mut sqlite3_vfs,
    _name: *const c_char,
    _flags: c_int,
    result: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives a place for the result.
    unsafe { *result = 0 };
    SQLITE_OK
}

/// Names are what they are.
unsafe extern "C" fn full_pathname(
    _vfs: *mut sqlite3_vfs,
    name: *const c_char,
    len_max: c_int,
    full: *mut c_char,
) -> c_int {
    // SAFETY: a string of SQLite's.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes_with_nul();
    if usize::try_from(len_max).is_ok_and(|max| name.len() <= max) {
        // SAFETY: there is room for `len_max` bytes, which is enough, in a buffer apart from the name.
        unsafe { full.copy_from_nonoverlapping(name.as_ptr().cast(), name.len()) };
        SQLITE_OK
    } else {
        SQLITE_CANTOPEN
    }
}

unsafe extern "C" fn randomness(_: *mut sqlite3_vfs, len: c_int, out: *mut c_char) -> c_int {
    let len = usize::try_from(len).unwrap_or(0);
    // SAFETY: SQLite gives `len` bytes, which it has set before.
    let out = unsafe { std::slice::from_raw_parts_mut(out.cast::<u8>(), len) };
    // The state of std's maps is random, and another one each time.
    for chunk in out.chunks_mut(8) {
        let word = RandomState::new().hash_one(()).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    c_int::try_from(len).unwrap_or(0)
}

unsafe extern "C" fn sleep(_: *mut sqlite3_vfs, us: c_int) -> c_int {
    std::thread::sleep(Duration::from_micros(u64::try_from(us).unwrap_or(0)));
    us
}

/// Milliseconds since the beginning of the Julian period.
fn julian_ms() -> i64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH_MS.saturating_add(i64::try_from(unix.as_millis()).unwrap_or(0))
}

#[expect(clippy::cast_precision_loss, reason = "that is why there is the other function")]
unsafe extern "C" fn current_time(_: *mut sqlite3_vfs, days: *mut f64) -> c_int {
    // SAFETY: SQLite gives a place for the result.
    unsafe { *days = julian_ms() as f64 / DAY_MS };
    SQLITE_OK
}

unsafe extern "C" fn current_time_ms(_: *mut sqlite3_vfs, ms: *mut sqlite3_int64) -> c_int {
    // SAFETY: SQLite gives a place for the result.
    unsafe { *ms = julian_ms() };
    SQLITE_OK
}

unsafe extern "C" fn last_error(_: *mut sqlite3_vfs, _len: c_int, _out: *mut c_char) -> c_int {
    0
}
