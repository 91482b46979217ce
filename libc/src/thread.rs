//! POSIX threads, of which there is one: its keys and destructors. More cannot be made; concurrency
//! within a guest is the kernel's tasks and fibers.
use crate::errno::{EAGAIN, EINVAL, ENOSYS, ESRCH};
use crate::single::Single;
use alloc::vec::Vec;
use core::ffi::{c_char, c_int, c_uint, c_void};
use core::ptr::null_mut;

/// Called with a value of a thread when the thread ends.
type Destructor = unsafe extern "C" fn(*mut c_void);

/// A key with its value in the one thread.
struct Key {
    destructor: Option<Destructor>,
    value: *mut c_void,
}

/// What belongs to the thread.
struct Thread {
    /// By key; `None` for keys that were deleted.
    keys: Vec<Option<Key>>,
    /// Destructors of `thread_local!` values, with the values, the youngest last.
    destructors: Vec<(Destructor, *mut c_void)>,
}

static THREAD: Single<Thread> = Single::new(Thread { keys: Vec::new(), destructors: Vec::new() });

impl Thread {
    fn key(&mut self, key: c_uint) -> Option<&mut Key> {
        self.keys.get_mut(key as usize)?.as_mut()
    }

    /// Takes out what is to be destroyed next at the thread's end: the youngest `thread_local!`, or,
    /// if none is left, the value of a key.
    fn take_value(&mut self) -> Option<(Destructor, *mut c_void)> {
        self.destructors.pop().or_else(|| {
            let mut keys = self.keys.iter_mut().flatten();
            keys.find_map(|key| {
                let destructor = key.destructor.filter(|_| !key.value.is_null())?;
                Some((destructor, core::mem::replace(&mut key.value, null_mut())))
            })
        })
    }
}

/// Destroys the values of the thread, as at its end. Destructors may make new values, which are
/// destroyed as well.
pub(crate) fn run_destructors() {
    while let Some((destructor, value)) = THREAD.with(Thread::take_value) {
        // SAFETY: whoever registered the pair vouches for calling it once at the thread's end.
        unsafe { destructor(value) };
    }
}

/// Registers the destructor of a `thread_local!` value.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn __cxa_thread_atexit_impl(
    destructor: Destructor,
    value: *mut c_void,
    _library: *mut c_void,
) -> c_int {
    THREAD.with(|thread| thread.destructors.push((destructor, value)));
    0
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn pthread_key_create(out: *mut c_uint, destructor: Option<Destructor>) -> c_int {
    let index = THREAD.with(|thread| {
        thread.keys.push(Some(Key { destructor, value: null_mut() }));
        thread.keys.len() - 1
    });
    let Ok(key) = c_uint::try_from(index) else { return EAGAIN };
    // SAFETY: by the caller, as C has it.
    unsafe { out.write(key) };
    0
}

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn pthread_key_delete(key: c_uint) -> c_int {
    let slot = |thread: &mut Thread| thread.keys.get_mut(key as usize).and_then(Option::take);
    if THREAD.with(slot).is_some() { 0 } else { EINVAL }
}

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn pthread_getspecific(key: c_uint) -> *mut c_void {
    THREAD.with(|thread| thread.key(key).map_or(null_mut(), |key| key.value))
}

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn pthread_setspecific(key: c_uint, value: *mut c_void) -> c_int {
    THREAD.with(|thread| {
        let Some(key) = thread.key(key) else { return EINVAL };
        key.value = value;
        0
    })
}

/// The thread's only name for itself. Not null, as callers take that for no thread.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn pthread_self() -> usize {
    1
}

/// The thread has no name that anyone could see.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn pthread_setname_np(_thread: usize, _name: *const c_char) -> c_int {
    ENOSYS
}

/// `pthread_attr_t`, of which only the stack size is kept.
#[repr(C)]
struct Attributes {
    stack_size: usize,
    reserved: [usize; 6],
}

const _: () = assert!(size_of::<Attributes>() == 56);

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn pthread_attr_init(attributes: *mut Attributes) -> c_int {
    // SAFETY: by the caller, as C has it.
    unsafe { attributes.write(Attributes { stack_size: 0, reserved: [0; 6] }) };
    0
}

#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn pthread_attr_setstacksize(attributes: *mut Attributes, size: usize) -> c_int {
    // SAFETY: by the caller, as C has it.
    unsafe { (*attributes).stack_size = size };
    0
}

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn pthread_attr_destroy(_attributes: *mut Attributes) -> c_int {
    0
}

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn pthread_create(
    _out: *mut usize,
    _attributes: *const Attributes,
    _start: *const c_void,
    _argument: *mut c_void,
) -> c_int {
    EAGAIN
}

/// Lets the kernel's tasks and other fibers run.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn sched_yield() -> c_int {
    paravane_kernel::run(paravane_kernel::task::yield_now());
    0
}

/// There is no thread to detach.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn pthread_detach(_thread: usize) -> c_int {
    ESRCH
}

/// There is no thread to join.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn pthread_join(_thread: usize, _result: *mut *mut c_void) -> c_int {
    ESRCH
}

/// What a thread's stack is, only the kernel knows.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn pthread_getattr_np(_thread: usize, _attributes: *mut Attributes) -> c_int {
    ENOSYS
}

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn pthread_attr_getstack(
    _attributes: *const Attributes,
    _base: *mut *mut c_void,
    _size: *mut usize,
) -> c_int {
    ENOSYS
}

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn pthread_attr_getguardsize(
    _attributes: *const Attributes,
    _size: *mut usize,
) -> c_int {
    ENOSYS
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn destructor(_value: *mut c_void) {}

    fn value(address: usize) -> *mut c_void {
        core::ptr::without_provenance_mut(address)
    }

    #[test]
    fn values_are_destroyed_youngest_first_and_keys_last() {
        let key = |address, destructor| Some(Key { destructor, value: value(address) });
        let mut thread = Thread {
            keys: std::vec![
                key(1, None),
                None,
                key(0, Some(destructor as Destructor)),
                key(3, Some(destructor as Destructor)),
            ],
            destructors: std::vec![(destructor, value(10)), (destructor, value(20))],
        };
        let mut taken = Vec::new();
        while let Some((_, value)) = thread.take_value() {
            taken.push(value.addr());
        }
        assert_eq!(taken, [20, 10, 3]);
        assert!(thread.key(1).is_none() && thread.key(4).is_none(), "deleted or never made");
        assert!(thread.key(3).unwrap().value.is_null());
    }
}
