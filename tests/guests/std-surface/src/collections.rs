//! Collections, sorting, strings.
use crate::Check;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::hash::BuildHasher;

pub(crate) const CHECKS: &[Check] = &[
    ("HashMap", hash_map),
    ("RandomState", random_state),
    ("BTreeMap", btree_map),
    ("sort", sort),
    ("format", format),
];

fn hash_map() {
    let map: HashMap<u32, String> = (0..1000).map(|i| (i, i.to_string())).collect();
    assert!(map.len() == 1000 && map.iter().all(|(key, value)| *value == key.to_string()));
}

/// Keys come from `getrandom`: two states with the same keys would agree on a hash.
fn random_state() {
    let hash = || RandomState::new().hash_one("the same");
    assert_ne!(hash(), hash(), "each state has keys of its own");
    let mut bytes = [0_u8; 64];
    // SAFETY: the buffer is ours and 64 bytes long.
    let len = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    assert_eq!(len, 64);
    assert!(bytes.iter().any(|&byte| byte != bytes[0]), "random bytes differ");
}

fn btree_map() {
    let map: BTreeMap<u32, u32> = (0..1000).rev().map(|i| (i, i * i)).collect();
    assert!(map.iter().zip(0..).all(|((&key, &value), i)| key == i && value == i * i));
    assert_eq!(map.range(10..12).collect::<Vec<_>>(), [(&10, &100), (&11, &121)]);
}

fn sort() {
    let mut values: Vec<u32> = (0..5000_u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
    let mut unstable = values.clone();
    values.sort();
    unstable.sort_unstable();
    assert!(values.is_sorted() && values == unstable);
}

fn format() {
    let mut text = String::new();
    write!(text, "{:>5}|{:<4}|{:#x}|{:.3}|{:?}", 42, "é", 255, 1.0 / 3.0, Some("a\n")).unwrap();
    assert_eq!(text, "   42|é   |0xff|0.333|Some(\"a\\n\")");
    assert_eq!("3.25e2".parse(), Ok(325.0));
    assert_eq!("ÄÖ".to_lowercase(), "äö");
}
