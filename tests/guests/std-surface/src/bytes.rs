//! `memcpy` and its relatives, as std and compiled code call them.
use crate::Check;
use std::hint::black_box;

pub(crate) const CHECKS: &[Check] = &[
    ("memcpy", memcpy),
    ("memmove", memmove),
    ("memset", memset),
    ("memcmp", memcmp),
    ("bcmp", bcmp),
];

const LENGTHS: [usize; 12] = [0, 1, 3, 4, 8, 16, 31, 33, 64, 65, 1000, 10_000];

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 256).to_le_bytes()[0]).collect()
}

fn memcpy() {
    for len in LENGTHS {
        let from = black_box(bytes(len));
        let mut to = black_box(vec![0; len]);
        to.copy_from_slice(&from);
        assert!(to.iter().eq(from.iter()), "{len} bytes");
    }
}

fn memmove() {
    for len in LENGTHS {
        for distance in [1, 17, 100] {
            let all = bytes(len + distance);
            let (mut up, mut down) = (black_box(all.clone()), black_box(all.clone()));
            up.copy_within(..len, distance);
            down.copy_within(distance.., 0);
            assert!(up[distance..].iter().eq(all[..len].iter()), "{len} bytes up {distance}");
            assert!(down[..len].iter().eq(all[distance..].iter()), "{len} bytes down {distance}");
        }
    }
}

fn memset() {
    for len in LENGTHS {
        let mut area = bytes(len + 2);
        let (first, last) = (area[0], area[len + 1]);
        area[1..=len].fill(black_box(0xa5));
        assert!(area[1..=len].iter().all(|&byte| byte == 0xa5), "{len} bytes");
        assert_eq!((area[0], area[len + 1]), (first, last), "around {len} bytes");
    }
}

fn memcmp() {
    for len in LENGTHS.into_iter().filter(|&len| len > 0) {
        let (a, mut b) = (bytes(len), bytes(len));
        assert!(black_box(&a).cmp(black_box(&b)).is_eq());
        b[len - 1] ^= 0x80;
        assert_eq!(a.cmp(&b), a[len - 1].cmp(&b[len - 1]), "{len} bytes");
    }
}

fn bcmp() {
    for len in LENGTHS.into_iter().filter(|&len| len > 0) {
        let (a, mut b) = (bytes(len), bytes(len));
        assert!(black_box(&a) == black_box(&b));
        b[len / 2] ^= 1;
        assert!(black_box(&a) != black_box(&b), "{len} bytes");
    }
}
