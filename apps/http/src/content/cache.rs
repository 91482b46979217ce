//! The cache of small files: bounded by bytes, second-chance replacement.
use super::Resident;
use crate::site::FileId;
use bytes::Bytes;
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// What an entry costs beyond its bytes: header values, heads of answers and bookkeeping.
const ENTRY_COST: usize = 1024;

/// What the cache did so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CacheCounters {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// Bytes held now, with overhead and with what was evicted and is still being sent.
    pub(crate) len: usize,
}

/// A cache of whole files.
#[derive(Debug)]
pub(super) struct Cache {
    /// One slot per file of the site.
    slots: Vec<Option<Slot>>,
    /// The files in the cache in the order in which they are considered for eviction.
    queue: VecDeque<FileId>,
    len_max: usize,
    /// Bytes of all [`Room`]s.
    held: Arc<AtomicUsize>,
    hits: u64,
    misses: u64,
}

#[derive(Debug)]
struct Slot {
    file: Rc<Resident>,
    used: Cell<bool>,
}

impl Cache {
    pub(super) fn new(file_count: usize, len_max: usize) -> Self {
        let slots = std::iter::repeat_with(|| None).take(file_count).collect();
        let held = Arc::default();
        Self { slots, queue: VecDeque::new(), len_max, held, hits: 0, misses: 0 }
    }

    pub(super) fn counters(&self) -> CacheCounters {
        CacheCounters { hits: self.hits, misses: self.misses, len: self.held.load(Relaxed) }
    }

    pub(super) fn get(&mut self, id: FileId) -> Option<Rc<Resident>> {
        let slot = self.slots[id.index()].as_ref()?;
        slot.used.set(true);
        self.hits += 1;
        Some(Rc::clone(&slot.file))
    }

    /// Makes room for a file of `len` bytes, evicting those not used of late. `None` if the file is
    /// larger than the cache, or too much of what was evicted is still being sent.
    pub(super) fn reserve(&mut self, len: usize) -> Option<Room> {
        let cost = len.checked_add(ENTRY_COST)?;
        let rest = self.len_max.checked_sub(cost)?;
        while self.held.load(Relaxed) > rest && !self.queue.is_empty() {
            self.evict_one();
        }
        (self.held.load(Relaxed) <= rest).then(|| {
            self.held.fetch_add(cost, Relaxed);
            Room { held: Arc::clone(&self.held), cost }
        })
    }

    /// Puts a file in that has its room. One that two requests read at once is kept once.
    pub(super) fn insert(&mut self, id: FileId, file: Rc<Resident>) {
        self.misses += 1;
        let slot = &mut self.slots[id.index()];
        if slot.is_none() {
            *slot = Some(Slot { file, used: Cell::new(false) });
            self.queue.push_back(id);
        }
    }

    fn evict_one(&mut self) {
        while let Some(id) = self.queue.pop_front() {
            let slot = &mut self.slots[id.index()];
            if slot.as_ref().is_none_or(|slot| !slot.used.replace(false)) {
                *slot = None;
                return;
            }
            self.queue.push_back(id);
        }
    }
}

/// Memory for a file within a cache's bound, until the last of the file's bytes is dropped: that may
/// be long after the file was evicted, when it is sent to slow clients.
#[derive(Debug)]
pub(super) struct Room {
    held: Arc<AtomicUsize>,
    cost: usize,
}

impl Room {
    /// The bytes of a file that is in this room.
    pub(super) fn fill<B: AsRef<[u8]> + Send + 'static>(self, content: B) -> Bytes {
        Bytes::from_owner(Content { content, _room: self })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.held.fetch_sub(self.cost, Relaxed);
    }
}

/// A file's bytes.
struct Content<B> {
    content: B,
    _room: Room,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Content<B> {
    fn as_ref(&self) -> &[u8] {
        self.content.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::super::FileHeaders;
    use super::*;
    use crate::site::tests::file_ids;
    use hyper::header::HeaderValue;

    /// Puts a file of `len` bytes in; whether there is room.
    fn insert(cache: &mut Cache, id: FileId, len: usize) -> bool {
        let Some(room) = cache.reserve(len) else { return false };
        let value = HeaderValue::from_static("");
        let headers =
            FileHeaders { etag: value.clone(), last_modified: value.clone(), media_type: value };
        let bytes = room.fill(vec![0; len]);
        cache.insert(id, Rc::new(Resident { headers, bytes, heads: Default::default() }));
        true
    }

    #[test]
    fn the_file_not_used_of_late_goes_first() {
        let ids: Vec<FileId> = file_ids(4).collect();
        let mut cache = Cache::new(4, 3 * (ENTRY_COST + 100));
        for &id in &ids[..3] {
            assert!(insert(&mut cache, id, 100));
        }
        assert!(cache.get(ids[0]).is_some());
        assert!(insert(&mut cache, ids[3], 100));
        let kept: Vec<bool> = ids.iter().map(|&id| cache.get(id).is_some()).collect();
        assert_eq!(kept, [true, false, true, true]);
    }

    #[test]
    fn the_bound_holds() {
        let ids: Vec<FileId> = file_ids(50).collect();
        let bound = 4 * ENTRY_COST;
        let mut cache = Cache::new(50, bound);
        for (i, &id) in ids.iter().enumerate() {
            assert_eq!(insert(&mut cache, id, i * 20), i * 20 <= bound - ENTRY_COST);
            assert!(cache.counters().len <= bound);
        }
        assert!(!insert(&mut cache, ids[0], bound), "larger than the cache");
    }

    #[test]
    fn a_file_that_is_being_sent_takes_room() {
        let ids: Vec<FileId> = file_ids(3).collect();
        let mut cache = Cache::new(3, 2 * (ENTRY_COST + 100));
        for &id in &ids[..2] {
            assert!(insert(&mut cache, id, 100));
        }
        let sent = [0, 1].map(|i| cache.get(ids[i]).unwrap().bytes.slice(50..));
        assert!(!insert(&mut cache, ids[2], 100));
        let [first, _] = sent;
        drop(first);
        assert!(insert(&mut cache, ids[2], 100));
    }

    #[test]
    fn a_file_is_counted_once_and_a_failed_read_not_at_all() {
        let id = file_ids(1).next().unwrap();
        let mut cache = Cache::new(1, 1 << 20);
        assert!(insert(&mut cache, id, 10) && insert(&mut cache, id, 10));
        drop(cache.reserve(1000));
        assert_eq!(cache.counters().len, 10 + ENTRY_COST);
    }
}
