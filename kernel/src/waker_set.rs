//! A set of wakers that wait for one event, with constant-time insertion and removal.
use alloc::vec::Vec;
use core::task::Waker;

/// Where a waker is in its set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(usize);

/// Wakers by [`Key`].
#[derive(Debug)]
pub(crate) struct WakerSet {
    entries: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl WakerSet {
    pub(crate) const fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }

    /// Puts `waker` in the entry of `key`, or in a new one.
    pub(crate) fn register(&mut self, key: &mut Option<Key>, waker: &Waker) {
        match *key {
            Some(Key(index)) => match &mut self.entries[index] {
                Some(present) => present.clone_from(waker),
                empty => *empty = Some(waker.clone()),
            },
            None => *key = Some(self.insert(waker.clone())),
        }
    }

    fn insert(&mut self, waker: Waker) -> Key {
        if let Some(index) = self.free.pop() {
            self.entries[index] = Some(waker);
            return Key(index);
        }
        self.entries.push(Some(waker));
        Key(self.entries.len() - 1)
    }

    /// Frees the entry of `key` and returns its waker, if it was not taken before.
    pub(crate) fn remove(&mut self, Key(index): Key) -> Option<Waker> {
        self.free.push(index);
        self.entries[index].take()
    }

    /// Takes all wakers; their keys stay valid.
    pub(crate) fn take_all(&mut self) -> Vec<Waker> {
        self.entries.iter_mut().filter_map(Option::take).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_reused_after_removal() {
        let mut set = WakerSet::new();
        let (mut first, mut second) = (None, None);
        set.register(&mut first, Waker::noop());
        set.register(&mut second, Waker::noop());
        assert_ne!(first, second);
        assert!(set.remove(first.unwrap()).is_some());
        let mut third = None;
        set.register(&mut third, Waker::noop());
        assert_eq!(third, first);
        assert_eq!(set.take_all().len(), 2);
        assert!(set.take_all().is_empty());
    }

    #[test]
    fn a_key_outlives_the_waking() {
        let mut set = WakerSet::new();
        let mut key = None;
        set.register(&mut key, Waker::noop());
        let before = key;
        set.take_all();
        set.register(&mut key, Waker::noop());
        assert_eq!(key, before);
        assert_eq!(set.take_all().len(), 1);
        assert!(set.remove(key.unwrap()).is_none());
    }
}
