//! A B-tree in memory.
use crate::Pass;
use crate::random::Random;
use std::collections::BTreeMap;

const KEYS: usize = 100_000;

type Tree = BTreeMap<u64, u64>;

fn keys() -> Vec<u64> {
    let mut random = Random::new();
    (0..KEYS).map(|_| random.next()).collect()
}

fn search(tree: &Tree, keys: &[u64]) -> u64 {
    keys.iter().filter_map(|key| tree.get(key)).fold(0, |sum, value| sum.wrapping_mul(31) ^ value)
}

/// Searches alone: the tree stands.
pub(crate) fn prepare_search() -> Pass {
    let keys = keys();
    let tree: Tree = keys.iter().copied().zip(0..).collect();
    Box::new(move || search(&tree, &keys))
}

/// Built, changed, searched, taken apart. The C library's allocator and `memmove` have a part in it.
pub(crate) fn prepare_updates() -> Pass {
    let keys = keys();
    Box::new(move || {
        let mut tree = Tree::new();
        for (&key, value) in keys.iter().zip(0..) {
            tree.insert(key, value);
        }
        for key in keys.iter().step_by(2) {
            tree.remove(key);
        }
        for &key in keys.iter().step_by(4) {
            tree.insert(key.rotate_left(32), key);
        }
        search(&tree, &keys)
    })
}
