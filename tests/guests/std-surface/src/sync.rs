//! Locks, also between fibers, which wait for each other on futexes.
use crate::{Check, assert_fails};
use paravane_libc::kernel::{fiber, run};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, LazyLock, Mutex, Once, OnceLock, RwLock};
use std::time::{Duration, Instant};

pub(crate) const CHECKS: &[Check] = &[
    ("locks", locks),
    ("Condvar timeout", condvar_timeout),
    ("park_timeout", park_timeout),
    ("Mutex between fibers", mutex_between_fibers),
    ("Condvar between fibers", condvar_between_fibers),
    ("other system calls", other_system_calls),
];

static LAZY: LazyLock<Vec<u8>> = LazyLock::new(|| vec![1, 2, 3]);

fn locks() {
    let mutex = Mutex::new(1);
    let guard = mutex.lock().unwrap();
    assert!(mutex.try_lock().is_err());
    drop(guard);
    *mutex.lock().unwrap() += 1;
    assert_eq!(mutex.into_inner().unwrap(), 2);
    let lock = RwLock::new(1);
    assert_eq!(*lock.read().unwrap() + *lock.read().unwrap(), 2);
    *lock.write().unwrap() = 5;
    assert_eq!(*lock.read().unwrap(), 5);
    assert_eq!(LAZY.len(), 3);
    let once = OnceLock::new();
    assert_eq!((once.get_or_init(|| 7), once.set(8)), (&7, Err(8)));
    let called = Once::new();
    called.call_once(|| {});
    assert!(called.is_completed());
}

const A_WHILE: Duration = Duration::from_millis(10);

fn condvar_timeout() {
    let (mutex, condvar) = (Mutex::new(()), Condvar::new());
    let before = Instant::now();
    let unlock = mutex.lock().unwrap();
    let (guard, result) = condvar.wait_timeout_while(unlock, A_WHILE, |()| true).unwrap();
    drop(guard);
    assert!(result.timed_out() && before.elapsed() >= A_WHILE);
    let (_sender, receiver) = channel::<u8>();
    assert_eq!(receiver.recv_timeout(A_WHILE), Err(RecvTimeoutError::Timeout));
}

/// May end early by its contract; must end.
fn park_timeout() {
    std::thread::park_timeout(A_WHILE);
    std::thread::current().unpark();
    std::thread::park();
}

/// One fiber holds the lock while it sleeps, and the other gets it afterwards.
fn mutex_between_fibers() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let fibers = [1, 2, 3].map(|id| {
        let log = log.clone();
        fiber::run(move || {
            let mut log = log.lock().unwrap();
            log.push(id);
            std::thread::sleep(A_WHILE);
            log.push(id);
        })
    });
    for fiber in fibers {
        run(fiber);
    }
    let mut found = log.lock().unwrap().clone();
    assert!(found.chunks(2).all(|pair| pair[0] == pair[1]), "{found:?}");
    found.sort_unstable();
    assert_eq!(found, [1, 1, 2, 2, 3, 3]);
}

fn condvar_between_fibers() {
    let shared = Arc::new((Mutex::new(0), Condvar::new()));
    let waiters = [(); 2].map(|()| {
        let shared = shared.clone();
        fiber::run(move || {
            let (mutex, condvar) = &*shared;
            let guard = condvar.wait_while(mutex.lock().unwrap(), |value| *value == 0);
            *guard.unwrap()
        })
    });
    let setter = shared.clone();
    run(fiber::run(move || {
        *setter.0.lock().unwrap() = 42;
        setter.1.notify_all();
    }));
    assert_eq!(waiters.map(run), [42, 42]);
}

fn other_system_calls() {
    // SAFETY: the calls are refused by their number.
    unsafe {
        assert_fails(libc::syscall(libc::SYS_getpid), libc::ENOSYS);
        assert_fails(libc::syscall(libc::SYS_clone3, 0, 0), libc::ENOSYS);
        assert_fails(libc::syscall(libc::SYS_futex, 0, libc::FUTEX_REQUEUE, 0, 0), libc::ENOSYS);
    }
}
