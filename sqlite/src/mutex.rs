//! SQLite's mutexes ("Mutex Methods", <https://sqlite.org/c3ref/mutex_methods.html>).
//!
//! All are recursive, which the other kind may be. In a guest, where fibers are one thread to std, they keep
//! no fiber out: a fiber that uses SQLite is not to be left while it holds one.
use crate::{InitializeError, check};
use libsqlite3_sys::{
    SQLITE_BUSY, SQLITE_CONFIG_MUTEX, SQLITE_MUTEX_STATIC_VFS3, SQLITE_OK, sqlite3_config,
    sqlite3_mutex, sqlite3_mutex_methods,
};
use std::cell::Cell;
use std::ffi::c_int;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A mutex that its holder can enter again.
#[derive(Debug)]
struct Recursive {
    /// Who holds it, and how many times it was entered.
    state: Mutex<(usize, u32)>,
    left: Condvar,
}

impl Recursive {
    const fn new() -> Self {
        Self { state: Mutex::new((0, 0)), left: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, (usize, u32)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) {
        let me = this_thread();
        let mut state = self.state();
        while state.1 > 0 && state.0 != me {
            state = self.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        *state = (me, state.1 + 1);
    }

    fn try_enter(&self) -> bool {
        let me = this_thread();
        let mut state = self.state();
        let is_free = state.1 == 0 || state.0 == me;
        if is_free {
            *state = (me, state.1 + 1);
        }
        is_free
    }

    fn leave(&self) {
        let mut state = self.state();
        state.1 = state.1.saturating_sub(1);
        if state.1 == 0 {
            self.left.notify_one();
        }
    }
}

/// A number that no other thread has at the same time.
fn this_thread() -> usize {
    thread_local!(static PLACE: Cell<u8> = const { Cell::new(0) });
    PLACE.with(|place| std::ptr::from_ref(place).addr())
}

/// The static mutexes, which SQLite names by the numbers from 2 on.
static STATIC: [Recursive; STATIC_COUNT] = [const { Recursive::new() }; STATIC_COUNT];
const STATIC_FIRST: c_int = 2;
const STATIC_COUNT: usize = 12;
const _: () = assert!(SQLITE_MUTEX_STATIC_VFS3 - STATIC_FIRST < 12);

static METHODS: sqlite3_mutex_methods = sqlite3_mutex_methods {
    xMutexInit: Some(nothing),
    xMutexEnd: Some(nothing),
    xMutexAlloc: Some(allocate),
    xMutexFree: Some(free),
    xMutexEnter: Some(enter),
    xMutexTry: Some(try_enter),
    xMutexLeave: Some(leave),
    xMutexHeld: None,
    xMutexNotheld: None,
};

/// Makes these SQLite's mutexes.
pub(crate) fn install() -> Result<(), InitializeError> {
    // SAFETY: SQLite copies the methods, which are as the option wants them.
    check(unsafe { sqlite3_config(SQLITE_CONFIG_MUTEX, &raw const METHODS) })
}

extern "C" fn nothing() -> c_int {
    SQLITE_OK
}

unsafe extern "C" fn allocate(kind: c_int) -> *mut sqlite3_mutex {
    let mutex = match usize::try_from(kind - STATIC_FIRST) {
        Ok(index) => STATIC.get(index).map_or(std::ptr::null(), std::ptr::from_ref),
        Err(_) => Box::into_raw(Box::new(Recursive::new())),
    };
    mutex.cast_mut().cast()
}

unsafe extern "C" fn free(mutex: *mut sqlite3_mutex) {
    // SAFETY: SQLite frees a mutex once, and none of the static ones: this is a box from `allocate`.
    drop(unsafe { Box::from_raw(mutex.cast::<Recursive>()) });
}

unsafe extern "C" fn enter(mutex: *mut sqlite3_mutex) {
    // SAFETY: from `allocate`, not freed, and only ever used through shared references.
    unsafe { &*mutex.cast::<Recursive>() }.enter();
}

unsafe extern "C" fn try_enter(mutex: *mut sqlite3_mutex) -> c_int {
    // SAFETY: as in `enter`.
    if unsafe { &*mutex.cast::<Recursive>() }.try_enter() { SQLITE_OK } else { SQLITE_BUSY }
}

unsafe extern "C" fn leave(mutex: *mut sqlite3_mutex) {
    // SAFETY: as in `enter`.
    unsafe { &*mutex.cast::<Recursive>() }.leave();
}
