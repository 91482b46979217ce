//! Sequences of operations on a queue and its device, against a model of what must come of them.
use super::{pair, segment, shared};
use crate::model::{Arena, ArenaRing, DeviceChain, DeviceQueue};
use crate::{Chain, Segment, VirtQueue};
use paravane_abi::device::feature::RING_EVENT_IDX;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::vec::Vec;

#[derive(Clone, Debug)]
enum Step {
    /// The driver adds a chain with segments and shared pieces of these lengths.
    Add { readable: [Option<u8>; 2], shared: Vec<usize>, writable: [Option<u8>; 2] },
    /// The driver shows the device what it added.
    Publish,
    /// The device takes all there is, and then asks for a notification or is busy.
    Take { sleep: bool },
    /// The device finishes one of the chains that it took.
    Finish { which: prop::sample::Index, written: prop::sample::Index },
    /// The driver collects all there is, and then asks for an event or is busy.
    Collect { sleep: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lens = || prop::option::of(1_u8..);
    let step = prop_oneof![
        4 => ([lens(), lens()], prop::collection::vec(0_usize..99, 0..5), [lens(), lens()])
            .prop_map(|(readable, shared, writable)| Step::Add { readable, shared, writable }),
        2 => Just(Step::Publish),
        2 => any::<bool>().prop_map(|sleep| Step::Take { sleep }),
        4 => any::<[prop::sample::Index; 2]>()
            .prop_map(|[which, written]| Step::Finish { which, written }),
        2 => any::<bool>().prop_map(|sleep| Step::Collect { sleep }),
    ];
    prop::collection::vec(step, 1..200)
}

/// What a chain was added with: the bytes to read, and how much there is to write.
#[derive(Debug)]
struct Expected {
    readable: Vec<u8>,
    writable: u32,
    descriptors: u16,
    shared: usize,
}

/// A queue, its device, and the books about both.
struct World {
    arena: Arena,
    queue: VirtQueue<Arena, u32>,
    device: DeviceQueue<ArenaRing>,
    size: u16,
    next_token: u32,
    expected: BTreeMap<u32, Expected>,
    added: VecDeque<u32>,
    published: VecDeque<u32>,
    taken: Vec<(u32, DeviceChain)>,
    finished: VecDeque<(u32, u32)>,
    /// Whether a side sleeps, having found nothing to do.
    device_sleeps: bool,
    driver_sleeps: bool,
}

impl World {
    fn new(size: u16, features: u64) -> Self {
        let arena = Arena::default();
        let (queue, device) = pair(&arena, size, features);
        Self {
            arena,
            queue,
            device,
            size,
            next_token: 0,
            expected: BTreeMap::new(),
            added: VecDeque::new(),
            published: VecDeque::new(),
            taken: Vec::new(),
            finished: VecDeque::new(),
            device_sleeps: false,
            driver_sleeps: false,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Add { readable, shared, writable } => self.add(*readable, shared, *writable),
            Step::Publish => self.publish(),
            Step::Take { sleep } => self.take(*sleep),
            Step::Finish { which, written } => self.finish(which, written),
            Step::Collect { sleep } => self.collect(*sleep),
        }
        let used: u16 = self.expected.values().map(|e| e.descriptors).sum();
        assert_eq!(self.queue.free_descriptors(), self.size - used);
        assert_eq!(usize::from(self.queue.in_flight()), self.expected.len());
        assert_eq!(self.arena.shared(), self.expected.values().map(|e| e.shared).sum());
    }

    fn add(&mut self, readable: [Option<u8>; 2], lens: &[usize], writable: [Option<u8>; 2]) {
        let token = self.next_token;
        self.next_token += 1;
        let make = |len: Option<u8>| len.map(|len| segment(&self.arena, usize::from(len)));
        let mut content = Vec::new();
        let readable = readable.map(|len| {
            let mut buffer = make(len)?.into_buffer();
            let bytes = (0_u32..).map(|i| (i ^ token).to_le_bytes()[0]);
            buffer.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
            content.extend_from_slice(&buffer);
            Some(Segment::whole(buffer))
        });
        let chain = Chain { readable, writable: writable.map(make) };
        let pieces = shared(&self.arena, lens);
        pieces.iter().for_each(|piece| content.extend_from_slice(piece));
        let shared = pieces.iter().filter(|piece| !piece.is_empty()).count();
        let descriptors = chain.readable.iter().chain(&chain.writable).flatten().count() + shared;
        let descriptors = u16::try_from(descriptors).unwrap();
        let fits = (1..=self.queue.free_descriptors()).contains(&descriptors);
        let writable = writable.into_iter().flatten().map(u32::from).sum();
        let added = self.queue.add_sharing(&self.arena, chain, &pieces, token);
        assert_eq!(added.is_ok(), fits);
        if fits {
            let expected = Expected { readable: content, writable, descriptors, shared };
            self.expected.insert(token, expected);
            self.added.push_back(token);
        }
    }

    fn publish(&mut self) {
        let notifies = self.queue.publish();
        if !self.added.is_empty() && self.device_sleeps {
            assert!(notifies, "the device sleeps on");
            self.device_sleeps = false;
        }
        self.published.append(&mut self.added);
    }

    fn take(&mut self, sleep: bool) {
        while let Some(chain) = self.device.take() {
            let token = self.published.pop_front().expect("the chain was published");
            let read = |&(at, len): &(u64, u32)| self.arena.read(at, len as usize);
            let content: Vec<u8> = chain.readable.iter().flat_map(read).collect();
            assert_eq!(content, self.expected[&token].readable);
            assert_eq!(chain.writable_len(), self.expected[&token].writable);
            self.taken.push((token, chain));
        }
        assert!(self.published.is_empty(), "a published chain was not there");
        if sleep {
            assert!(!self.device.enable_notifications());
        } else {
            self.device.disable_notifications();
        }
        self.device_sleeps = sleep;
    }

    fn finish(&mut self, which: &prop::sample::Index, written: &prop::sample::Index) {
        if self.taken.is_empty() {
            return;
        }
        let (token, chain) = self.taken.remove(which.index(self.taken.len()));
        let written = u32::try_from(written.index(chain.writable_len() as usize + 1)).unwrap();
        let mut left = written;
        for (at, len) in &chain.writable {
            let len = left.min(*len);
            self.arena.write(*at, &std::vec![token.to_le_bytes()[0]; len as usize]);
            left -= len;
        }
        self.device.finish(chain.head, written);
        self.finished.push_back((token, written));
        if self.device.wants_event() {
            self.driver_sleeps = false;
        }
        assert!(!self.driver_sleeps, "the driver sleeps on");
    }

    fn collect(&mut self, sleep: bool) {
        assert_eq!(self.queue.has_used(), !self.finished.is_empty());
        while let Some(used) = self.queue.pop().expect("the device behaves") {
            assert_eq!(Some((used.token, used.written)), self.finished.pop_front());
            self.expected.remove(&used.token);
            let buffers = used.chain.writable.into_iter().flatten().map(Segment::into_buffer);
            let content: Vec<u8> = buffers.flat_map(|buffer| buffer.to_vec()).collect();
            let expect = |i: usize| if i < used.written as usize { used.token } else { 0 };
            let expect: Vec<u8> = (0..content.len()).map(|i| expect(i).to_le_bytes()[0]).collect();
            assert_eq!(content, expect);
        }
        assert!(self.finished.is_empty(), "a finished chain was not there");
        if sleep {
            assert!(!self.queue.enable_events());
        }
        self.driver_sleeps = sleep;
    }
}

proptest! {
    #[test]
    fn a_queue_does_what_its_model_says(
        steps in steps(),
        size in (0..=5).prop_map(|shift| 1_u16 << shift),
        event_idx in any::<bool>(),
    ) {
        let mut world = World::new(size, if event_idx { RING_EVENT_IDX } else { 0 });
        for step in &steps {
            world.step(step);
        }
    }
}
