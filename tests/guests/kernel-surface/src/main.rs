//! Guest that uses the kernel part by part. Its first argument names the part; `kernel.rs` of the
//! integration tests knows how each ends.
use paravane_abi::device::DeviceKind;
use paravane_abi::manifest::{Manifest, ManifestDevice};
use paravane_kernel::block::{BlockError, Disk};
use paravane_kernel::executor::{Poller, register_poller};
use paravane_kernel::time::{Instant, now, sleep, timeout};
use paravane_kernel::{console, entropy, fiber, memory, run, stop_requested, task};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

const STACK_SIZE: u32 = 64 << 10;

const BLOCK: ManifestDevice = ManifestDevice { kind: DeviceKind::Block as u32, required: 0 };

paravane_libc::image!(
    Manifest::new("kernel-surface", 8 << 20, &[BLOCK]).with_stacks(3, STACK_SIZE)
);

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("tasks") => tasks(),
        Some("timers") => timers(),
        Some("fibers") => fibers(),
        Some("memory") => memory_comes_back(),
        Some("entropy") => entropy_differs(),
        Some("disks") => run(disks()).expect("the disks work"),
        Some("drain") => drain(),
        Some("exit") => paravane_kernel::exit(42),
        Some("overflow") => println!("{}", run(fiber::run(|| deep(u64::MAX)))),
        Some("panic") => run(fiber::run(|| panic!("a fiber gave up"))),
        Some("hoard") => hoard(),
        Some("spin") => spin(),
        other => panic!("no such part: {other:?}"),
    }
    console::write(b"passed");
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn tasks() {
    let sum: u64 = run(async {
        let tasks: Vec<_> = (0..10_000)
            .map(|i| {
                task::spawn(async move {
                    task::yield_now().await;
                    i
                })
            })
            .collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await;
        }
        sum
    });
    assert_eq!(sum, 49_995_000);
}

fn timers() {
    let start = now();
    run(async {
        let long = task::spawn(sleep(millis(60)));
        timeout(millis(20), sleep(millis(5))).await.expect("the sleep is shorter");
        timeout(millis(20), sleep(millis(500))).await.expect_err("the sleep is longer");
        long.await;
    });
    assert!(start.elapsed() >= millis(60), "{:?}", start.elapsed());
    std::thread::sleep(millis(5));
    assert!(start.elapsed() >= millis(65), "{:?}", start.elapsed());
}

/// More fibers than stacks, each with a call that blocks and one that needs its stack.
fn fibers() {
    let start = now();
    let fibers: Vec<_> = (0..8)
        .map(|i| {
            fiber::run(move || {
                std::thread::sleep(millis(20));
                fiber::yield_now();
                deep(i)
            })
        })
        .collect();
    let depths = run(async {
        let mut depths = 0;
        for fiber in fibers {
            depths += fiber.await;
        }
        depths
    });
    assert_eq!(depths, 28);
    // Two at a time.
    assert!(start.elapsed() >= millis(80), "{:?}", start.elapsed());
}

/// Recursion with a frame of some hundred bytes, which the optimizer does not see through.
fn deep(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    if depth == 0 { 0 } else { 1 + deep(std::hint::black_box(frame[1]) - 1) }
}

/// Uses more memory in all than there is at any time, and sleeps so that it is given back.
fn memory_comes_back() {
    let keep = vec![3_u8; 1000];
    for round in 1..=5_u8 {
        let large = vec![round; memory::stats().capacity / 2];
        assert!(large.iter().all(|&byte| byte == round));
        drop(large);
        run(sleep(millis(1100)));
    }
    assert!(keep.iter().all(|&byte| byte == 3));
}

fn entropy_differs() {
    let (mut first, mut second) = ([0; 16], [0; 16]);
    entropy::fill(&mut first);
    entropy::fill(&mut second);
    assert!(first != second && first != [0; 16]);
    println!("random {:032x}", u128::from_le_bytes(first));
}

/// Tells what every disk is that has a name, and signs those that can be written in their last sector.
async fn disks() -> Result<(), BlockError> {
    for tag in ["site", "disk-a", "disk-b"] {
        let Some(disk) = Disk::open(tag) else { continue };
        let (sectors, read_only) = (disk.capacity_sectors(), disk.is_read_only());
        let mut sector = [0; 512];
        disk.read(0, &mut sector).await?;
        let start = String::from_utf8_lossy(&sector[..6]);
        println!("{tag}: {sectors} sectors, read-only {read_only}, {start:?}");
        if !read_only {
            sector = [0; _];
            sector[..tag.len()].copy_from_slice(tag.as_bytes());
            disk.write(sectors - 1, &sector).await?;
            disk.flush().await?;
        }
    }
    Ok(())
}

/// Counts the turns of the executor's loop.
struct Turns(Rc<Cell<u32>>);

impl Poller for Turns {
    fn poll(&mut self, _now: Instant) -> bool {
        false
    }

    fn before_wait(&mut self, _now: Instant) -> bool {
        self.0.set(self.0.get() + 1);
        false
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        None
    }
}

/// Waits for the operator, then drains for a while, asleep.
fn drain() {
    let turns = Rc::new(Cell::new(0));
    register_poller(Box::new(Turns(turns.clone())));
    run(async {
        log::info!("ready");
        stop_requested().await;
        turns.set(0);
        sleep(millis(300)).await;
    });
    assert!(turns.get() < 10, "{} turns in one sleep", turns.get());
}

fn hoard() {
    let mut hoard = Vec::new();
    loop {
        hoard.push(vec![1_u8; 1 << 20]);
    }
}

fn spin() {
    loop {
        std::hint::spin_loop();
    }
}
