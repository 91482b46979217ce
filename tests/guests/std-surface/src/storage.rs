//! Thread-local storage: values, alignment, and destructors at the end.
use crate::Check;
use std::cell::{Cell, RefCell};

pub(crate) const CHECKS: &[Check] = &[
    ("thread_local", thread_local),
    ("thread_local alignment", alignment),
    ("thread_local destructor registered", destructor),
    ("pthread_key", keys),
];

#[repr(align(128))]
struct Aligned(Cell<u64>);

struct AtEnd;

impl Drop for AtEnd {
    fn drop(&mut self) {
        println!("ok thread_local destructor called");
    }
}

thread_local! {
    static INITIALISED: Cell<u64> = const { Cell::new(0x0123_4567_89ab_cdef) };
    static ZERO: Cell<[u64; 5]> = const { Cell::new([0; 5]) };
    static BYTE: Cell<u8> = const { Cell::new(0x5a) };
    static ALIGNED: Aligned = const { Aligned(Cell::new(77)) };
    static LAZY: RefCell<String> = RefCell::new("lazy".to_owned());
    static AT_END: AtEnd = const { AtEnd };
}

fn thread_local() {
    assert_eq!(INITIALISED.get(), 0x0123_4567_89ab_cdef);
    assert_eq!(ZERO.get(), [0; 5]);
    assert_eq!(BYTE.get(), 0x5a);
    INITIALISED.set(1);
    ZERO.set([2; 5]);
    BYTE.set(3);
    LAZY.with_borrow_mut(|text| text.push('!'));
    assert_eq!((INITIALISED.get(), ZERO.get(), BYTE.get()), (1, [2; 5], 3));
    assert_eq!(LAZY.take(), "lazy!");
}

fn alignment() {
    ALIGNED.with(|value| {
        assert!(std::ptr::from_ref(value).addr().is_multiple_of(128));
        assert_eq!(value.0.replace(78), 77);
    });
}

/// That it is called shows after `main`.
fn destructor() {
    AT_END.with(|_| {});
}

fn keys() {
    let (mut a, mut b) = (0, 0);
    let (one, two) = (std::ptr::without_provenance(1), std::ptr::without_provenance(2));
    // SAFETY: the keys are ours, and their values are never used as pointers.
    unsafe {
        assert_eq!(libc::pthread_key_create(&raw mut a, None), 0);
        assert_eq!(libc::pthread_key_create(&raw mut b, Some(key_destructor)), 0);
        assert!(libc::pthread_getspecific(a).is_null());
        assert_eq!(libc::pthread_setspecific(a, one), 0);
        assert_eq!(libc::pthread_setspecific(b, two), 0);
        assert_eq!(libc::pthread_getspecific(a).addr(), 1);
        assert_eq!(libc::pthread_key_delete(a), 0);
        assert_eq!(libc::pthread_key_delete(a), libc::EINVAL);
        assert_eq!(libc::pthread_setspecific(a, one), libc::EINVAL);
        assert!(libc::pthread_getspecific(a).is_null());
    }
}

unsafe extern "C" fn key_destructor(value: *mut libc::c_void) {
    assert_eq!(value.addr(), 2);
    println!("ok pthread_key destructor called");
}
