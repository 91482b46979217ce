//! Ways for a guest to end other than by returning from `main`.
use std::hint::black_box;
use std::process::{abort, exit};

/// Ends the guest: `panic`, `abort`, `exit STATUS`, `overflow` (of the stack) or `exhaust` (the memory).
pub(crate) fn end(end: &str, rest: &[String]) {
    match (end, rest) {
        ("panic", []) => panic!("this is the panic that was asked for"),
        ("abort", []) => abort(),
        ("exit", [status]) => exit(status.parse().expect("the status is a number")),
        ("overflow", []) => exit(i32::from(recurse(1) == 0)),
        ("exhaust", []) => exhaust(),
        _ => panic!("no such end: {end} {rest:?}"),
    }
}

#[expect(unconditional_recursion, reason = "this is what overflows the stack")]
fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth) + 1)) + 1
}

fn exhaust() {
    let mut blocks = Vec::new();
    loop {
        blocks.push(black_box(vec![1_u8; 1 << 20]));
    }
}
