//! The block front-end with a hostile device: used rings and status bytes.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use paravane_abi::device::{BlockConfig, Device, DeviceKind, feature};
use paravane_fuzz::{Attack, Victim};
use paravane_pv_drivers::block::{Block, Request, Ticket};
use paravane_pv_drivers::model::{Arena, Host};
use std::task::{Context, Waker};

#[derive(Arbitrary, Debug)]
enum Step {
    Read {
        sector: u64,
        sectors: u8,
    },
    Write {
        sector: u64,
        sectors: u8,
    },
    Discard {
        sector: u64,
        count: u32,
    },
    Flush,
    Kick,
    Poll,
    Outcome(u8),
    Abandon(u8),
    /// The device writes a status to the next chain and returns it.
    Answer {
        status: u8,
        written: u32,
    },
    Attack(Attack),
}

#[derive(Arbitrary, Debug)]
struct Input {
    features: u64,
    capacity: u64,
    steps: Vec<Step>,
}

struct World {
    arena: Arena,
    block: Block<Arena, Host>,
    victim: Victim,
    tickets: Vec<Option<Ticket>>,
}

impl World {
    fn step(&mut self, step: &Step) {
        let buffer = |sectors: u8| self.block.buffer(512 * usize::from(sectors));
        match *step {
            Step::Read { sector, sectors } => {
                self.submit(buffer(sectors).map(|buffer| {
                    let len = buffer.len();
                    Request::Read { sector, buffer, len }
                }));
            }
            Step::Write { sector, sectors } => {
                self.submit(buffer(sectors).map(|buffer| Request::Write { sector, buffer }));
            }
            Step::Discard { sector, count } => {
                self.submit(Some(Request::Discard { sector, count }));
            }
            Step::Flush => self.submit(Some(Request::Flush)),
            Step::Kick => self.block.kick(),
            Step::Poll => self.block.poll(&mut Vec::new()),
            Step::Outcome(which) => self.outcome(which),
            Step::Abandon(which) => self.abandon(which),
            Step::Answer { status, written } => self.answer(status, written),
            Step::Attack(ref attack) => self.victim.suffer(attack),
        }
    }

    fn submit(&mut self, mut request: Option<Request<Arena>>) {
        let mut context = Context::from_waker(Waker::noop());
        let submitted = self.block.poll_submit(&mut request, &mut context);
        if let std::task::Poll::Ready(Ok(ticket)) = submitted {
            self.tickets.push(Some(ticket));
        }
    }

    fn outcome(&mut self, which: u8) {
        let count = self.tickets.len().max(1);
        if let Some(ticket) = self.tickets.get_mut(usize::from(which) % count) {
            let mut context = Context::from_waker(Waker::noop());
            let is_ready = self.block.poll_outcome(ticket, &mut context).is_ready();
            assert_eq!(is_ready, ticket.is_none());
        }
        self.tickets.retain(Option::is_some);
    }

    fn abandon(&mut self, which: u8) {
        if usize::from(which) < self.tickets.len() {
            let ticket = self.tickets.swap_remove(usize::from(which));
            ticket.into_iter().for_each(|ticket| self.block.abandon(ticket));
        }
    }

    fn answer(&mut self, status: u8, written: u32) {
        let Some(chain) = self.victim.device.take() else { return };
        if let Some((address, _)) = chain.writable.last() {
            // The driver may have freed the buffer, if the device lied about it.
            self.arena.write_if_live(*address, &[status]);
        }
        // A right length now and then.
        let written = if written & 1 == 0 { chain.writable_len() } else { written };
        self.victim.device.finish(chain.head, written);
    }
}

fuzz_target!(|input: Input| {
    let arena = paravane_fuzz::arena();
    let device = Device {
        kind: DeviceKind::Block as u32,
        queue_count: 1,
        queue_size_max: 16,
        features: input.features | feature::VERSION_1,
        block: BlockConfig {
            capacity: input.capacity,
            segments_max: 1,
            discard_sectors_max: 1 << 16,
        },
        ..Device::default()
    };
    let host = Host::new(&arena, device);
    let block = Block::new(arena.clone(), host.clone(), 0, &device).expect("the device is good");
    let victim = Victim::new(&arena, host.attached().expect("it was attached").queues[0]);
    let mut world = World { arena: arena.clone(), block, victim, tickets: Vec::new() };
    input.steps.iter().for_each(|step| world.step(step));
    drop(world);
    // SAFETY: whoever used it was dropped just now.
    unsafe { arena.free_leaked() };
});
