//! The C library's allocator, set up for many small processes.

/// Gives all threads one heap. With heaps of their own, each thread of an appliance would map and dirty
/// some for a handful of objects; none but one of them allocates much. To be called before there are
/// threads.
pub fn share_one_heap() {
    // SAFETY: no other thread allocates yet. A C library that does not know the option ignores it.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}
