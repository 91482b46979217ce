//! Tests of the kernel as a whole, on the fake host.
use crate::fake_host::{End, FakeHost, with_host};
use crate::time::{self, Elapsed, Instant, sleep, timeout};
use crate::{executor, fiber, task};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::time::Duration;

const SECOND: u64 = 1_000_000_000;

/// Runs `program` as a guest that must return.
fn guest(program: impl FnOnce()) -> FakeHost {
    let (end, host) = FakeHost::new().run("", program);
    assert_eq!(end, End::Returned);
    host
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A list that tasks write to, to compare what happened when.
#[derive(Clone, Default)]
struct Trace(Rc<RefCell<Vec<&'static str>>>);

impl Trace {
    fn note(&self, event: &'static str) {
        self.0.borrow_mut().push(event);
    }

    fn take(&self) -> Vec<&'static str> {
        self.0.take()
    }
}

#[test]
fn run_returns_the_result_of_its_future() {
    guest(|| assert_eq!(crate::run(async { 42 }), 42));
}

#[test]
fn tasks_run_and_hand_over_their_results() {
    guest(|| {
        let sum = crate::run(async {
            let tasks: Vec<_> = (0..1000).map(|i| task::spawn(async move { i })).collect();
            let mut sum = 0;
            for task in tasks {
                sum += task.await;
            }
            sum
        });
        assert_eq!(sum, 499_500);
    });
}

#[test]
fn a_dropped_handle_leaves_its_task_running_and_an_aborted_one_ends() {
    guest(|| {
        let trace = Trace::default();
        let note = |event| {
            let trace = trace.clone();
            async move {
                sleep(seconds(1)).await;
                trace.note(event);
            }
        };
        drop(task::spawn(note("dropped")));
        task::spawn(note("aborted")).abort();
        crate::run(sleep(seconds(2)));
        assert_eq!(trace.take(), ["dropped"]);
    });
}

#[test]
fn sleepers_wake_in_the_order_of_their_deadlines() {
    let host = guest(|| {
        let trace = Trace::default();
        for (delay, event) in [(3, "three"), (1, "one"), (2, "two")] {
            let trace = trace.clone();
            task::spawn(async move {
                sleep(seconds(delay)).await;
                trace.note(event);
            });
        }
        crate::run(sleep(seconds(4)));
        assert_eq!(trace.take(), ["one", "two", "three"]);
        assert_eq!(time::now(), Instant::from_nanos(4 * SECOND));
    });
    assert!(host.waits <= 6, "{} waits for four deadlines", host.waits);
}

#[test]
fn a_timeout_is_as_long_as_it_says_and_not_in_the_way_of_a_result() {
    guest(|| {
        crate::run(async {
            assert_eq!(timeout(seconds(1), sleep(seconds(5))).await, Err(Elapsed));
            assert_eq!(time::now().as_nanos(), SECOND);
            assert_eq!(timeout(seconds(9), async { 1 }).await, Ok(1));
            assert_eq!(time::now().as_nanos(), SECOND);
        });
    });
}

#[test]
fn a_reset_moves_the_end_of_a_sleep() {
    guest(|| {
        crate::run(async {
            let mut nap = sleep(seconds(1));
            assert_eq!(timeout(seconds(0), &mut nap).await, Err(Elapsed));
            nap.reset(time::now() + seconds(3));
            nap.await;
            assert_eq!(time::now().as_nanos(), 3 * SECOND);
        });
    });
}

#[test]
fn busy_tasks_starve_neither_timers_nor_the_main_future() {
    guest(|| {
        for _ in 0..2 {
            task::spawn(async {
                loop {
                    task::yield_now().await;
                    with_host(|host| host.advance(1_000));
                }
            });
        }
        crate::run(sleep(seconds(1)));
    });
}

#[test]
fn a_stop_wakes_who_waits_for_it() {
    let (end, host) = FakeHost::new().stop_at(5 * SECOND).run("", || {
        assert!(!crate::is_stopping());
        drop(crate::stop_requested());
        crate::run(async {
            let stopped = task::spawn(crate::stop_requested());
            assert_eq!(timeout(seconds(1), crate::stop_requested()).await, Err(Elapsed));
            crate::stop_requested().await;
            stopped.await;
        });
        assert!(crate::is_stopping());
        assert_eq!(time::now().as_nanos(), 5 * SECOND);
        crate::run(sleep(seconds(1))); // the guest can still sleep
        crate::exit(3);
    });
    assert_eq!(end, End::Exit(3));
    assert!(host.waits < 10);
}

/// A device that has news every second, three times.
struct Ticker {
    left: u32,
    next: Instant,
    seen: Rc<Cell<u32>>,
}

impl executor::Poller for Ticker {
    fn poll(&mut self, now: Instant) -> bool {
        if self.left > 0 && now >= self.next {
            self.left -= 1;
            self.next = now + seconds(1);
            self.seen.set(self.seen.get() + 1);
        }
        false
    }

    fn before_wait(&mut self, _now: Instant) -> bool {
        false
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        (self.left > 0).then_some(self.next)
    }
}

#[test]
fn pollers_are_polled_at_their_deadlines() {
    let host = guest(|| {
        let seen = Rc::new(Cell::new(0));
        let next = Instant::from_nanos(SECOND);
        executor::register_poller(Box::new(Ticker { left: 3, next, seen: seen.clone() }));
        crate::run(sleep(Duration::from_millis(3_500)));
        assert_eq!(seen.get(), 3);
    });
    assert!(host.waits <= 5);
}

#[test]
fn fibers_run_beside_tasks_and_share_their_stacks() {
    guest(|| {
        let trace = Trace::default();
        // Two fiber stacks: the third fiber starts when the first is done.
        let fibers = [(1, "first"), (3, "second"), (1, "third")].map(|(delay, event)| {
            let trace = trace.clone();
            fiber::run(move || {
                crate::run(sleep(seconds(delay)));
                trace.note(event);
                event.len()
            })
        });
        let lengths = crate::run(async {
            let mut lengths = Vec::new();
            for fiber in fibers {
                lengths.push(fiber.await);
            }
            lengths
        });
        assert_eq!(lengths, [5, 6, 5]);
        assert_eq!(trace.take(), ["first", "third", "second"]);
        assert_eq!(time::now().as_nanos(), 3 * SECOND);
    });
}

#[test]
fn a_fiber_yields_to_tasks() {
    guest(|| {
        let trace = Trace::default();
        let (in_fiber, in_task) = (trace.clone(), trace.clone());
        let fiber = fiber::run(move || {
            in_fiber.note("computing");
            fiber::yield_now();
            in_fiber.note("done");
        });
        task::spawn(async move { in_task.note("task") });
        crate::run(fiber);
        fiber::yield_now(); // nothing to do outside of a fiber
        assert_eq!(trace.take(), ["computing", "task", "done"]);
    });
}

#[test]
fn run_in_a_task_nests() {
    guest(|| {
        let other = task::spawn(async {
            sleep(seconds(1)).await;
            "other"
        });
        let nested = task::spawn(async { crate::run(other) });
        assert_eq!(crate::run(nested), "other");
    });
}

#[test]
fn the_console_writes_each_byte_once_in_order() {
    let mut expect = String::new();
    for i in 0..2000 {
        expect.push_str(&alloc::format!("line {i}\n"));
    }
    let text = expect.clone();
    let host = guest(move || {
        text.as_bytes().chunks(777).for_each(crate::console::write);
        crate::console::write(b"no line end");
        crate::run(async {});
    });
    expect.push_str("no line end");
    assert_eq!(host.console, expect);
}

#[test]
fn a_panic_report_follows_the_pending_text() {
    let (end, host) = FakeHost::new().run("", || {
        crate::console::write(b"last words");
        crate::panic::report("something is wrong");
    });
    assert_eq!(end, End::Panic("something is wrong".into()));
    assert_eq!(host.console, "last words");
}

#[test]
fn running_out_of_memory_is_reported() {
    use core::alloc::{GlobalAlloc, Layout};
    let (end, _) = FakeHost::new().run("", || {
        let layout = Layout::from_size_align(1 << 30, 16).unwrap();
        // SAFETY: the size is not zero.
        assert!(unsafe { crate::memory::Heap.alloc(layout) }.is_null());
        crate::panic::report("allocation failed");
    });
    let End::Panic(text) = end else { panic!("{end:?}") };
    assert!(text.starts_with("out of memory: 1073741824 bytes wanted, 0 of 16"), "{text}");
    assert!(text.ends_with("with --memory: allocation failed"), "{text}");
}

#[test]
fn the_heap_accounts_for_what_it_gives() {
    use crate::memory::{allocate, deallocate, reallocate, stats};
    use core::alloc::Layout;
    guest(|| {
        let layout = Layout::from_size_align(1000, 16).unwrap();
        let pointer = allocate(layout);
        // SAFETY: the allocation is live and 1000 bytes long, later 5000.
        unsafe {
            pointer.write_bytes(7, 1000);
            let pointer = reallocate(pointer, layout, 5000);
            assert_eq!(core::slice::from_raw_parts(pointer, 1000), [7; 1000]);
            assert_eq!(stats().used, 5000);
            deallocate(pointer, Layout::from_size_align(5000, 16).unwrap());
        }
        assert_eq!(stats().used, 0);
        assert!(crate::memory::shortage().is_none());
        assert!(stats().peak >= 5000 && stats().grown < 128 << 10);
    });
}

#[test]
fn arguments_are_split_between_kernel_and_application() {
    let (end, host) = FakeHost::new().run("a kernel.log=debug b kernel.lgo=x", || {
        assert!(crate::arguments().eq(["a", "b"]));
        assert_eq!(crate::config(), b"");
        log::warn!("careful");
    });
    assert_eq!(end, End::Returned);
    let lines = [
        "[    0.000000] WARN  paravane_kernel::logger: there is no argument kernel.lgo=x\n",
        "[    0.000000] WARN  paravane_kernel::tests: careful\n",
    ];
    assert_eq!(host.console, lines.concat());
}

#[test]
fn randomness_is_renewed_at_first_and_after_a_restore() {
    let host = guest(|| {
        let fill = || {
            let mut bytes = [0; 32];
            crate::entropy::fill(&mut bytes);
            bytes
        };
        assert_ne!(fill(), fill());
        assert_eq!(with_host(|host| host.entropy_calls), 1);
        with_host(FakeHost::renew);
        assert_ne!(fill(), fill());
    });
    assert_eq!(host.entropy_calls, 2);
}

#[test]
fn large_freed_memory_goes_back_to_the_host_when_the_guest_sleeps() {
    use crate::memory::{allocate, deallocate};
    use core::alloc::Layout;
    let host = guest(|| {
        let layout = Layout::from_size_align(3 << 20, 16).unwrap();
        let keep = allocate(Layout::from_size_align(64, 16).unwrap());
        let large = allocate(layout);
        // SAFETY: both allocations are live; the large one is freed once.
        unsafe {
            keep.write_bytes(7, 64);
            deallocate(large, layout);
        }
        crate::run(sleep(seconds(1)));
        crate::run(sleep(seconds(5)));
        // SAFETY: the allocation is still live.
        assert_eq!(unsafe { core::slice::from_raw_parts(keep, 64) }, [7; 64]);
    });
    assert!(host.released.iter().all(|(offset, len)| offset % 4096 == 0 && len % 4096 == 0));
    let released: u64 = host.released.iter().map(|(_, len)| len).sum();
    assert!((2_500_000..4_000_000).contains(&released), "{released} bytes");
}

#[test]
fn a_refused_start_info_ends_the_guest_with_the_reason() {
    let (end, _) = FakeHost::new().with_start_info(|info| info.magic = 0).run("", || {
        unreachable!("the guest does not start");
    });
    assert_eq!(end, End::Panic("the start info page has a wrong magic number".into()));
}
