//! A B-tree in memory: built, searched, taken apart. Much of it is the allocator's work.
use crate::Pass;
use crate::random::Random;
use std::collections::BTreeMap;

const KEYS: usize = 100_000;

pub(crate) fn prepare() -> Pass {
    let mut random = Random::new();
    let keys: Vec<u64> = (0..KEYS).map(|_| random.next()).collect();
    Box::new(move || {
        let mut tree = BTreeMap::new();
        for (i, &key) in keys.iter().enumerate() {
            tree.insert(key, i as u64);
        }
        for key in keys.iter().step_by(2) {
            tree.remove(key);
        }
        for &key in keys.iter().step_by(4) {
            tree.insert(key.rotate_left(32), key);
        }
        keys.iter().filter_map(|key| tree.get(key)).fold(0, |sum, i| sum.wrapping_mul(31) ^ i)
    })
}
