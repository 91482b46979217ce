//! The ChaCha20 block function of RFC 8439, section 2.3, with a nonce of zero: each key is used for
//! one key stream only.

/// Bytes of a key.
pub(super) const KEY_LEN: usize = 32;

/// Bytes of a block of the key stream.
pub(super) const BLOCK_LEN: usize = 64;

/// "expand 32-byte k", little-endian.
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// The columns and the diagonals of the state, section 2.3.
const DOUBLE_ROUND: [[usize; 4]; 8] = [
    [0, 4, 8, 12],
    [1, 5, 9, 13],
    [2, 6, 10, 14],
    [3, 7, 11, 15],
    [0, 5, 10, 15],
    [1, 6, 11, 12],
    [2, 7, 8, 13],
    [3, 4, 9, 14],
];

/// Block `counter` of the key stream of `key`.
pub(super) fn block(key: &[u8; KEY_LEN], counter: u32) -> [u8; BLOCK_LEN] {
    block_with_nonce(key, counter, [0; 3])
}

fn block_with_nonce(key: &[u8; KEY_LEN], counter: u32, nonce: [u32; 3]) -> [u8; BLOCK_LEN] {
    let mut initial = [0; 16];
    initial[..4].copy_from_slice(&CONSTANTS);
    let (words, _) = key.as_chunks();
    for (word, bytes) in initial[4..12].iter_mut().zip(words) {
        *word = u32::from_le_bytes(*bytes);
    }
    initial[12] = counter;
    initial[13..].copy_from_slice(&nonce);
    serialize(permute(initial), initial)
}

/// The 20 rounds.
fn permute(mut state: [u32; 16]) -> [u32; 16] {
    for _ in 0..10 {
        for quarter in DOUBLE_ROUND {
            quarter_round(&mut state, quarter);
        }
    }
    state
}

/// Section 2.1.
fn quarter_round(state: &mut [u32; 16], [a, b, c, d]: [usize; 4]) {
    for (x, y, z, distance) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        state[x] = state[x].wrapping_add(state[y]);
        state[z] = (state[z] ^ state[x]).rotate_left(distance);
    }
}

fn serialize(permuted: [u32; 16], initial: [u32; 16]) -> [u8; BLOCK_LEN] {
    let mut block = [0; BLOCK_LEN];
    let (words, _) = block.as_chunks_mut();
    for ((bytes, a), b) in words.iter_mut().zip(permuted).zip(initial) {
        *bytes = a.wrapping_add(b).to_le_bytes();
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8439, section 2.1.1.
    #[test]
    fn quarter_round_vector() {
        let mut state = [0; 16];
        state[..4].copy_from_slice(&[0x1111_1111, 0x0102_0304, 0x9b8d_6f43, 0x0123_4567]);
        quarter_round(&mut state, [0, 1, 2, 3]);
        assert_eq!(state[..4], [0xea2a_92f4, 0xcb1c_f8ce, 0x4581_472e, 0x5881_c4bb]);
    }

    /// RFC 8439, section 2.3.2.
    #[test]
    fn block_vector() {
        let key = core::array::from_fn(|i| u8::try_from(i).unwrap());
        let block = block_with_nonce(&key, 1, [0x0900_0000, 0x4a00_0000, 0]);
        let expect = [
            0x10, 0xf1, 0xe7, 0xe4, 0xd1, 0x3b, 0x59, 0x15, 0x50, 0x0f, 0xdd, 0x1f, 0xa3, 0x20,
            0x71, 0xc4, 0xc7, 0xd1, 0xf4, 0xc7, 0x33, 0xc0, 0x68, 0x03, 0x04, 0x22, 0xaa, 0x9a,
            0xc3, 0xd4, 0x6c, 0x4e, 0xd2, 0x82, 0x64, 0x46, 0x07, 0x9f, 0xaa, 0x09, 0x14, 0xc2,
            0xd7, 0x05, 0xd9, 0x8b, 0x02, 0xa2, 0xb5, 0x12, 0x9c, 0xd1, 0xde, 0x16, 0x4e, 0xb9,
            0xcb, 0xd0, 0x83, 0xe8, 0xa2, 0x50, 0x3c, 0x4e,
        ];
        assert_eq!(block, expect);
    }

    /// RFC 8439, appendix A.1, test vector 1: all zero.
    #[test]
    fn zero_key_vector() {
        let block = block(&[0; KEY_LEN], 0);
        assert_eq!(block[..8], [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90]);
    }
}
