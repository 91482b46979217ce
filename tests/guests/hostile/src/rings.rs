//! Virtqueues of the first block device in shapes that virtio does not allow.
use crate::host::{call, expect};
use crate::{
    Property,
    Then::{Dies, Lives},
};
use core::ptr;
use paravane_abi::device::{Attach, DeviceKind, QueueSetup, feature};
use paravane_abi::hypercall::Hypercall;
use paravane_abi::layout::RAM_BASE;
use paravane_abi::start_info::StartInfo;
use zerocopy::IntoBytes;

pub(crate) const PROPERTIES: &[Property] = &[
    ("ring-well-formed", Lives, |info| {
        let ring = Ring::attach(info);
        ring.request(info);
        ring.publish(1);
        ring.kick();
        expect(ring.wait_used() == 1, "the request was not answered");
    }),
    ("ring-attach-twice", Lives, |info| {
        let ring = Ring::attach(info);
        expect(call(Hypercall::Attach, ring.attach_args()) < 0, "second attach");
    }),
    ("ring-notify-bad-queue", Lives, |info| {
        let ring = Ring::attach(info);
        expect(call(Hypercall::Notify, [ring.device(), 7, 0]) < 0, "queue 7");
    }),
    ("ring-notify-before-attach", Lives, |info| {
        let device = block_device(info);
        expect(call(Hypercall::Notify, [device, 0, 0]) < 0, "not attached");
    }),
    ("ring-chain-loops", Dies, |info| {
        with_chain(info, |ring| {
            ring.descriptor(0, ring.buffer(), 16, NEXT, 1);
            ring.descriptor(1, ring.buffer(), 512, NEXT | WRITE, 0);
        });
    }),
    ("ring-chain-points-at-itself", Dies, |info| {
        with_chain(info, |ring| ring.descriptor(0, ring.buffer(), 16, NEXT, 0));
    }),
    ("ring-next-out-of-table", Dies, |info| {
        with_chain(info, |ring| ring.descriptor(0, ring.buffer(), 16, NEXT, 4000));
    }),
    ("ring-head-out-of-table", Dies, |info| {
        let ring = Ring::attach(info);
        ring.available(0, 4000);
        ring.publish(1);
        ring.kick();
    }),
    ("ring-index-jumps", Dies, |info| {
        let ring = Ring::attach(info);
        ring.request(info);
        ring.publish(SIZE + 1);
        ring.kick();
    }),
    ("ring-index-far", Dies, |info| {
        let ring = Ring::attach(info);
        ring.publish(0x8000);
        ring.kick();
    }),
    ("ring-buffer-behind-ram", Dies, |info| {
        let end = info.dma_offset + info.ram_size;
        with_chain(info, |ring| {
            ring.descriptor(0, end - 8, 16, NEXT, 1);
            ring.descriptor(1, ring.buffer(), 1, WRITE, 0);
        });
    }),
    ("ring-buffer-wraps", Dies, |info| {
        with_chain(info, |ring| {
            ring.descriptor(0, u64::MAX - 7, 16, NEXT, 1);
            ring.descriptor(1, ring.buffer(), 1, WRITE, 0);
        });
    }),
    ("ring-length-huge", Dies, |info| {
        with_chain(info, |ring| {
            ring.descriptor(0, ring.buffer(), u32::MAX, NEXT, 1);
            ring.descriptor(1, ring.buffer(), 1, WRITE, 0);
        });
    }),
    ("ring-indirect-not-offered", Dies, |info| {
        with_chain(info, |ring| ring.descriptor(0, ring.buffer(), 64, INDIRECT, 0));
    }),
    ("ring-read-into-text", Dies, |info| {
        let text = crate::main as *const () as u64 - RAM_BASE;
        read_into(info, info.dma_offset + text);
    }),
    ("ring-read-into-guard-page", Dies, |info| {
        read_into(info, info.dma_offset + info.stack_base);
    }),
    ("ring-on-guard-page", Dies, |info| {
        let ring = Ring::attach_at(info, info.stack_base);
        ring.kick();
        call(Hypercall::Wait, [0, 0, 0]);
    }),
    ("ring-used-in-text", Dies, |info| {
        let text = (crate::main as *const () as u64 - RAM_BASE) & !0xfff;
        let ring = Ring::attach_with(info, |queue| queue.used = info.dma_offset + text);
        ring.request(info);
        ring.publish(1);
        ring.kick();
        call(Hypercall::Wait, [1, 0, 0]);
        loop {
            // The answer may come from another thread of the host.
            call(Hypercall::Wait, [0, 0, 0]);
        }
    }),
];

/// Monotonic time by which a device that works on its own has looked at a ring.
const LOOKED_BY_NS: u64 = 1_000_000_000;

const SIZE: u16 = 8;
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

fn block_device(info: &StartInfo) -> u64 {
    let is_block = |d: &paravane_abi::device::Device| d.kind == DeviceKind::Block as u32;
    let found = info.devices().iter().position(is_block);
    expect(found.is_some(), "this property needs a block device");
    found.unwrap_or(0) as u64
}

fn with_chain(info: &StartInfo, build: impl Fn(&Ring)) {
    let ring = Ring::attach(info);
    build(&ring);
    ring.available(0, 0);
    ring.publish(1);
    ring.kick();
}

/// Reads sector 0 to a device address where the guest itself may not write.
fn read_into(info: &StartInfo, target: u64) {
    let ring = Ring::attach(info);
    ring.request(info);
    ring.descriptor(1, target, 512, NEXT | WRITE, 2);
    ring.publish(1);
    ring.kick();
    ring.wait_used();
    // An error status is as good an answer as ending the domain.
    expect(ring.status() != 0, "the device wrote where the guest may not");
    crate::host::panic("the device answered with an error status");
}

/// A virtqueue of eight entries in free RAM behind the stacks: table, available and used ring in one
/// page, buffers in the next.
struct Ring {
    /// RAM offset.
    base: u64,
    dma_offset: u64,
    attach: Attach,
}

impl Ring {
    fn attach(info: &StartInfo) -> Self {
        Self::attach_at(info, info.stack_end())
    }

    fn attach_at(info: &StartInfo, base: u64) -> Self {
        Self::attach_parts(info, base, |_| ())
    }

    fn attach_with(info: &StartInfo, change: impl Fn(&mut QueueSetup)) -> Self {
        Self::attach_parts(info, info.stack_end(), change)
    }

    fn attach_parts(info: &StartInfo, base: u64, change: impl Fn(&mut QueueSetup)) -> Self {
        let device = u32::try_from(block_device(info)).unwrap_or(0);
        let mut attach =
            Attach { device, queue_count: 1, features: feature::VERSION_1, ..Attach::default() };
        let address = info.dma_offset + base;
        attach.queues[0] = QueueSetup {
            descriptors: address,
            available: address + 0x400,
            used: address + 0x800,
            size: SIZE,
            reserved: [0; 3],
        };
        change(&mut attach.queues[0]);
        let ring = Self { base, dma_offset: info.dma_offset, attach };
        expect(call(Hypercall::Attach, ring.attach_args()) == 0, "attach");
        ring
    }

    fn attach_args(&self) -> [u64; 3] {
        [self.attach.as_bytes().as_ptr() as u64, size_of::<Attach>() as u64, 0]
    }

    fn device(&self) -> u64 {
        u64::from(self.attach.device)
    }

    /// Device address of the buffers.
    fn buffer(&self) -> u64 {
        self.dma_offset + self.base + 0x1000
    }

    fn store<T>(&self, offset: u64, value: T) {
        // SAFETY: free RAM, aligned by the callers' offsets, that only this ring uses.
        unsafe { ptr::write_volatile((RAM_BASE + self.base + offset) as *mut T, value) };
    }

    fn load<T>(&self, offset: u64) -> T {
        // SAFETY: as for `store`; every byte pattern is a value of the integers read here.
        unsafe { ptr::read_volatile((RAM_BASE + self.base + offset) as *const T) }
    }

    fn descriptor(&self, index: u64, address: u64, len: u32, flags: u16, next: u16) {
        let at = 16 * index;
        self.store(at, address);
        self.store(at + 8, len);
        self.store(at + 12, flags);
        self.store(at + 14, next);
    }

    fn available(&self, slot: u64, head: u16) {
        self.store(0x400 + 4 + 2 * slot, head);
    }

    fn publish(&self, index: u16) {
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
        self.store(0x400 + 2, index);
    }

    /// Tells the device, and gives one that works on its own the time to look.
    fn kick(&self) {
        call(Hypercall::Notify, [self.device(), 0, 0]);
        while call(Hypercall::Wait, [LOOKED_BY_NS, 0, 0]) != 0 {}
    }

    /// A well-formed read of sector 0: header, 512 bytes, status.
    fn request(&self, _: &StartInfo) {
        const STATUS_UNSET: u8 = 0xff;
        self.store(0x1000, [0_u64; 2]);
        self.store(0x1400, STATUS_UNSET);
        self.descriptor(0, self.buffer(), 16, NEXT, 1);
        self.descriptor(1, self.buffer() + 0x200, 512, NEXT | WRITE, 2);
        self.descriptor(2, self.buffer() + 0x400, 1, WRITE, 0);
        self.available(0, 0);
    }

    fn status(&self) -> u8 {
        self.load(0x1400)
    }

    /// Waits until something is used; the number of used entries.
    fn wait_used(&self) -> u16 {
        loop {
            let used: u16 = self.load(0x800 + 2);
            if used != 0 {
                return used;
            }
            call(Hypercall::Wait, [0, 0, 0]);
        }
    }
}
