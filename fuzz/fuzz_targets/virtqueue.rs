//! The driver side of a virtqueue, whose device writes what it likes into the used ring.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use paravane_abi::device::feature;
use paravane_fuzz::{Attack, Victim};
use paravane_pv_drivers::{Chain, DmaBuffer, Segment, VirtQueue};
use std::collections::BTreeSet;

#[derive(Arbitrary, Debug)]
enum Step {
    Add { readable: [Option<u8>; 2], shared: [u8; 3], writable: [Option<u8>; 2] },
    Publish,
    EnableEvents,
    Pop,
    Attack(Attack),
}

#[derive(Arbitrary, Debug)]
struct Input {
    size_shift: u8,
    event_idx: bool,
    steps: Vec<Step>,
}

fuzz_target!(|input: Input| {
    let arena = paravane_fuzz::arena();
    let features = if input.event_idx { feature::RING_EVENT_IDX } else { 0 };
    let size = 1 << (input.size_shift % 6);
    let mut queue: VirtQueue<_, usize> =
        VirtQueue::new(&arena, size, features).expect("there is memory");
    let mut victim = Victim::new(&arena, queue.setup());
    let segment =
        |len: Option<u8>| DmaBuffer::new(&arena, usize::from(len?), 1).map(Segment::whole);
    let mut outstanding = BTreeSet::new();
    let mut is_dead = false;
    for (token, step) in input.steps.iter().enumerate() {
        match step {
            Step::Add { readable, shared, writable } => {
                let chain =
                    Chain { readable: readable.map(segment), writable: writable.map(segment) };
                let shared = shared.map(|len| paravane_fuzz::shared().slice(..usize::from(len)));
                if queue.add_sharing(&arena, chain, &shared, token).is_ok() {
                    assert!(!is_dead);
                    outstanding.insert(token);
                }
            }
            Step::Publish => {
                let _ = queue.publish();
            }
            Step::EnableEvents => {
                let _ = queue.enable_events();
            }
            Step::Attack(attack) => victim.suffer(attack),
            Step::Pop => match queue.pop() {
                Ok(Some(used)) => {
                    assert!(!is_dead && outstanding.remove(&used.token));
                    let room = used.chain.writable.iter().flatten().map(Segment::len).sum();
                    assert!(used.written <= room);
                }
                Ok(None) => assert!(!is_dead),
                Err(_) => is_dead = true,
            },
        }
        assert_eq!(usize::from(queue.in_flight()), outstanding.len());
    }
    drop(queue);
    // SAFETY: whoever used it was dropped just now.
    unsafe { arena.free_leaked() };
});
