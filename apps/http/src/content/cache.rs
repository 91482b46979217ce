//! The cache of small files: bounded by bytes, second-chance replacement.
use super::Resident;
use crate::site::FileId;
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

/// What an entry costs beyond its bytes: header values and bookkeeping.
const ENTRY_COST: usize = 256;

/// What the cache did so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CacheCounters {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// Bytes held now, with overhead.
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
    counters: CacheCounters,
}

#[derive(Debug)]
struct Slot {
    file: Rc<Resident>,
    used: Cell<bool>,
}

impl Cache {
    pub(super) fn new(file_count: usize, len_max: usize) -> Self {
        let slots = std::iter::repeat_with(|| None).take(file_count).collect();
        Self { slots, queue: VecDeque::new(), len_max, counters: CacheCounters::default() }
    }

    pub(super) fn counters(&self) -> CacheCounters {
        self.counters
    }

    pub(super) fn get(&mut self, id: FileId) -> Option<Rc<Resident>> {
        let slot = self.slots[id.index()].as_ref()?;
        slot.used.set(true);
        self.counters.hits += 1;
        Some(Rc::clone(&slot.file))
    }

    /// Puts a file in, evicting those not used of late. A file that never fits is not kept, and one
    /// that two requests read at once is kept once.
    pub(super) fn insert(&mut self, id: FileId, file: Rc<Resident>) {
        self.counters.misses += 1;
        let cost = cost(&file);
        if cost > self.len_max || self.slots[id.index()].is_some() {
            return;
        }
        while self.counters.len + cost > self.len_max {
            self.evict_one();
        }
        self.counters.len += cost;
        self.queue.push_back(id);
        self.slots[id.index()] = Some(Slot { file, used: Cell::new(false) });
    }

    fn evict_one(&mut self) {
        while let Some(id) = self.queue.pop_front() {
            let slot = &mut self.slots[id.index()];
            match slot {
                Some(used) if used.used.replace(false) => self.queue.push_back(id),
                _ => {
                    self.counters.len -= slot.take().map_or(0, |slot| cost(&slot.file));
                    return;
                }
            }
        }
    }
}

fn cost(file: &Resident) -> usize {
    file.bytes.len() + ENTRY_COST
}

#[cfg(test)]
mod tests {
    use super::super::FileHeaders;
    use super::*;
    use crate::site::tests::file_ids;
    use bytes::Bytes;
    use hyper::header::HeaderValue;

    fn resident(len: usize) -> Rc<Resident> {
        let value = HeaderValue::from_static("");
        let headers =
            FileHeaders { etag: value.clone(), last_modified: value.clone(), media_type: value };
        Rc::new(Resident { headers, bytes: Bytes::from(vec![0; len]) })
    }

    #[test]
    fn the_file_not_used_of_late_goes_first() {
        let ids: Vec<FileId> = file_ids(4).collect();
        let mut cache = Cache::new(4, 3 * (ENTRY_COST + 100));
        for &id in &ids[..3] {
            cache.insert(id, resident(100));
        }
        assert!(cache.get(ids[0]).is_some());
        cache.insert(ids[3], resident(100));
        let kept: Vec<bool> = ids.iter().map(|&id| cache.get(id).is_some()).collect();
        assert_eq!(kept, [true, false, true, true]);
    }

    #[test]
    fn the_bound_holds() {
        let ids: Vec<FileId> = file_ids(50).collect();
        let bound = 4 * ENTRY_COST;
        let mut cache = Cache::new(50, bound);
        for (i, &id) in ids.iter().enumerate() {
            cache.insert(id, resident(i * 20));
            assert!(cache.counters().len <= bound);
        }
        cache.insert(ids[0], resident(bound));
        assert!(cache.get(ids[0]).is_none(), "larger than the cache");
    }

    #[test]
    fn a_file_is_counted_once() {
        let id = file_ids(1).next().unwrap();
        let mut cache = Cache::new(1, 1 << 20);
        cache.insert(id, resident(10));
        cache.insert(id, resident(10));
        assert_eq!(cache.counters().len, 10 + ENTRY_COST);
    }
}
