//! What every device has, on either transport: status, features, queues and a configuration.
use paravane_abi::device::feature;
use std::vec;
use std::vec::Vec;

pub(crate) const FEATURE_MTU: u64 = 1 << 3;
pub(crate) const FEATURE_MAC: u64 = 1 << 5;
pub(crate) const FEATURE_SEG_MAX: u64 = 1 << 2;

const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const FAILED: u8 = 0x80;
const IN_HAND: u8 = ACKNOWLEDGE | DRIVER;
const NO_VECTOR: u16 = 0xffff;

/// A virtqueue as its driver set it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    pub(crate) size: u16,
    /// Descriptors, driver area, device area.
    pub(crate) addresses: [u64; 3],
    pub(crate) is_ready: bool,
    pub(crate) vector: u16,
}

const UNUSED: Queue = Queue { size: 0, addresses: [0; 3], is_ready: false, vector: NO_VECTOR };

/// A device.
#[derive(Clone, Debug)]
pub(crate) struct Core {
    pub(crate) id: u32,
    pub(crate) offered: u64,
    pub(crate) config: Vec<u8>,
    pub(crate) queue_sizes_max: Vec<u16>,

    /// First register of the MMIO transport.
    pub(crate) magic: u32,
    /// Version of the MMIO transport.
    pub(crate) version: u32,
    /// Fault: a reset is never done.
    pub(crate) never_resets: bool,
    /// Fault: `FEATURES_OK` is not kept.
    pub(crate) refuses_features: bool,
    /// Fault: the queues do not become unused by a reset.
    pub(crate) keeps_queues: bool,
    /// Configurations that replace the present one, each after one access to it.
    pub(crate) config_next: Vec<Vec<u8>>,
    /// Fault: every access to the configuration changes it.
    pub(crate) config_churns: bool,

    pub(crate) status: u8,
    pub(crate) accepted: u64,
    pub(crate) queues: Vec<Queue>,
    pub(crate) notified: Vec<u16>,
    pub(crate) interrupt_status: u32,
    pub(crate) generation: u32,
    pub(crate) device_half: u32,
    pub(crate) driver_half: u32,
    pub(crate) queue: u16,
    pub(crate) config_vector: u16,
}

impl Core {
    fn new(id: u32, offered: u64, queue_sizes_max: &[u16], config: Vec<u8>) -> Self {
        Self {
            id,
            offered,
            config,
            queue_sizes_max: queue_sizes_max.into(),
            magic: u32::from_le_bytes(*b"virt"),
            version: 2,
            never_resets: false,
            refuses_features: false,
            keeps_queues: false,
            config_next: Vec::new(),
            config_churns: false,
            // As firmware may leave it.
            status: IN_HAND | FEATURES_OK | DRIVER_OK,
            accepted: 0,
            queues: vec![UNUSED; queue_sizes_max.len()],
            notified: Vec::new(),
            interrupt_status: 0,
            generation: 0,
            device_half: 0,
            driver_half: 0,
            queue: 0,
            config_vector: NO_VECTOR,
        }
    }

    /// A network device with everything, among it features that the contract does not know.
    pub(crate) fn net() -> Self {
        let mut config = vec![0x52, 0x54, 0, 0x12, 0x34, 0x56, 1, 0, 1, 0];
        config.extend(9000_u16.to_le_bytes());
        let unknown = 1 << 16 | 1 << 17 | 1 << 28 | 1 << 34;
        let known = feature::NET_CSUM | feature::NET_MRG_RXBUF | feature::RING_EVENT_IDX;
        let offered = known | unknown | FEATURE_MAC | FEATURE_MTU | feature::VERSION_1;
        Self::new(1, offered, &[1024, 256, 64], config)
    }

    /// A block device with everything, among it features that the contract does not know.
    pub(crate) fn block() -> Self {
        let mut config = vec![0; 60];
        config[..8].copy_from_slice(&0x1_0000_0002_u64.to_le_bytes());
        config[12..16].copy_from_slice(&254_u32.to_le_bytes());
        config[36..40].copy_from_slice(&0x3f_ffff_u32.to_le_bytes());
        let unknown = 1 << 6 | 1 << 11 | 1 << 12 | 1 << 28;
        let known = feature::BLK_FLUSH | feature::BLK_DISCARD | feature::RING_EVENT_IDX;
        let offered = known | unknown | FEATURE_SEG_MAX | feature::VERSION_1;
        Self::new(2, offered, &[256, 256], config)
    }

    pub(crate) fn with_features(mut self, offered: u64) -> Self {
        self.offered = offered;
        self
    }

    pub(super) fn status(&self) -> u8 {
        self.status
    }

    /// 3.1.1: each bit in its turn, and none cleared.
    pub(super) fn set_status(&mut self, status: u8) {
        if status == 0 {
            return self.reset();
        }
        if status & FAILED == 0 {
            let turn = match self.status {
                0 => ACKNOWLEDGE,
                ACKNOWLEDGE => IN_HAND,
                IN_HAND => IN_HAND | FEATURES_OK,
                _ => IN_HAND | FEATURES_OK | DRIVER_OK,
            };
            assert_eq!(status, turn, "the status {:#x} is followed by another", self.status);
            self.check_turn(status);
        }
        assert_eq!(self.status & !status, 0, "bits of the status are cleared");
        let kept = if self.refuses_features { !FEATURES_OK } else { !0 };
        self.status = status & kept;
    }

    fn check_turn(&self, status: u8) {
        if status == IN_HAND | FEATURES_OK {
            assert_eq!(self.accepted & !self.offered, 0, "features are accepted, not offered");
            assert_ne!(self.accepted & feature::VERSION_1, 0, "VERSION_1 is not accepted");
        }
        if status & DRIVER_OK != 0 {
            assert!(self.queues[0].is_ready, "DRIVER_OK comes before the queues");
        }
    }

    fn reset(&mut self) {
        if self.never_resets {
            return;
        }
        let queues = if self.keeps_queues {
            vec![Queue { is_ready: true, ..UNUSED }; self.queues.len()]
        } else {
            vec![UNUSED; self.queues.len()]
        };
        *self = Self { status: 0, accepted: 0, queues, ..self.clone() };
    }

    fn require(&self, status: u8) {
        assert_eq!(self.status & status, status, "done with the status {:#x}", self.status);
    }

    pub(super) fn features(&self) -> u32 {
        self.require(IN_HAND);
        half(self.offered, self.device_half)
    }

    pub(super) fn accept(&mut self, features: u32) {
        assert_eq!(self.status, IN_HAND, "features are accepted out of turn");
        let shift = self.driver_half * 32;
        self.accepted = self.accepted & !(0xffff_ffff << shift) | u64::from(features) << shift;
    }

    pub(super) fn queue_size_max(&self) -> u16 {
        self.require(IN_HAND);
        self.queue_sizes_max.get(usize::from(self.queue)).copied().unwrap_or(0)
    }

    pub(super) fn selected(&self) -> Queue {
        self.require(IN_HAND);
        self.queues[usize::from(self.queue)]
    }

    /// The selected queue, to be set up (4.1.4.3.2 and 4.2.2.2: not once it is ready).
    pub(super) fn set_up(&mut self) -> &mut Queue {
        assert_eq!(self.status, IN_HAND | FEATURES_OK, "a queue is set up out of turn");
        let queue = &mut self.queues[usize::from(self.queue)];
        assert!(!queue.is_ready, "a queue is changed that is ready");
        queue
    }

    pub(super) fn set_address(&mut self, part: usize, offset: u64, value: u32) {
        let address = &mut self.set_up().addresses[part];
        let shift = offset % 8 * 8;
        *address = *address & !(0xffff_ffff << shift) | u64::from(value) << shift;
    }

    pub(super) fn set_ready(&mut self, value: u32) {
        assert_eq!(value, 1);
        let size_max = self.queue_size_max();
        let queue = self.set_up();
        assert!(queue.size.is_power_of_two() && queue.size <= size_max, "{queue:?}");
        assert!(!queue.addresses.contains(&0), "{queue:?}");
        queue.is_ready = true;
    }

    pub(super) fn notify(&mut self, queue: u16) {
        self.require(IN_HAND | FEATURES_OK | DRIVER_OK);
        assert!(self.queues[usize::from(queue)].is_ready, "queue {queue} is not ready");
        self.notified.push(queue);
    }

    /// Reads a field of the configuration: the whole field, or a half of one of 64 bits (4.1.3.1).
    pub(super) fn read_config<const LEN: usize>(&mut self, offset: u64) -> [u8; LEN] {
        self.require(IN_HAND);
        let has = |feature| self.offered & feature != 0;
        let is_field = match (self.id, offset, LEN) {
            (1, 0..6, 1) => has(FEATURE_MAC),
            (1, 10, 2) => has(FEATURE_MTU),
            (2, 0 | 4, 4) => true,
            (2, 12, 4) => has(FEATURE_SEG_MAX),
            (2, 36, 4) => has(feature::BLK_DISCARD),
            _ => false,
        };
        assert!(is_field, "{LEN} bytes of the configuration are read at {offset}");
        let start = usize::try_from(offset).unwrap();
        let value = self.config[start..start + LEN].try_into().unwrap();
        self.change_config();
        value
    }

    fn change_config(&mut self) {
        if self.config_churns {
            self.generation = (self.generation + 1) & 0xff;
        }
        if !self.config_next.is_empty() {
            self.config = self.config_next.remove(0);
            self.generation += 1;
        }
    }
}

fn half(value: u64, half: u32) -> u32 {
    match half {
        0 => (value & 0xffff_ffff) as u32,
        1 => (value >> 32) as u32,
        other => panic!("half {other} of the features is selected"),
    }
}
