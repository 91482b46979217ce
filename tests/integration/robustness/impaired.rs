//! Transfers between the guest and Linux over wires with faults.
use super::lan::Pair;
use super::relay::{Bottleneck, Count, Impairment};
use super::services::{DIGEST, Family, Family::V4, Family::V6, download, exchange, upload};
use super::{Kind, case};
use crate::backend::Backend;
use crate::case::Case;
use anyhow::{Result, ensure};
use std::time::Duration;

const SEED: u64 = 0x7061_7261_7661_6e65;

const MIB: usize = 1 << 20;

const NONE: Impairment = Impairment {
    lost: 0,
    doubled: 0,
    damaged: 0,
    overtaking: 0,
    alike: 0,
    delay: Duration::ZERO,
    jitter: Duration::ZERO,
    bottleneck: None,
    packet_len_max: None,
};

/// A wire, how much is sent over it in each direction, and what has to have happened to frames.
struct Row {
    name: &'static str,
    impairment: Impairment,
    len: usize,
    happened: fn(&Count) -> u64,
}

static ROWS: [Row; 8] = [
    Row {
        name: "loss-1-percent",
        impairment: Impairment { lost: 10, ..NONE },
        len: 4 * MIB,
        happened: |count| count.lost,
    },
    Row {
        name: "loss-10-percent",
        impairment: Impairment { lost: 100, ..NONE },
        len: MIB / 2,
        happened: |count| count.lost,
    },
    Row {
        name: "reordering",
        impairment: Impairment {
            overtaking: 250,
            alike: 500,
            delay: Duration::from_millis(5),
            ..NONE
        },
        len: 2 * MIB,
        happened: |count| count.overtook,
    },
    Row {
        name: "duplication",
        impairment: Impairment { doubled: 100, ..NONE },
        len: 4 * MIB,
        happened: |count| count.doubled,
    },
    Row {
        name: "corruption",
        impairment: Impairment { damaged: 20, ..NONE },
        len: 2 * MIB,
        happened: |count| count.damaged,
    },
    Row {
        name: "delay-and-jitter",
        impairment: Impairment {
            delay: Duration::from_millis(50),
            jitter: Duration::from_millis(10),
            ..NONE
        },
        len: MIB / 2,
        happened: |count| count.seen,
    },
    Row {
        name: "slow-line-with-a-short-queue",
        impairment: Impairment {
            bottleneck: Some(Bottleneck { bytes_per_second: 1 << 20, queue_len: 20 }),
            ..NONE
        },
        len: 2 * MIB,
        happened: |count| count.overflowed,
    },
    Row {
        name: "everything",
        impairment: Impairment {
            lost: 20,
            doubled: 20,
            damaged: 10,
            overtaking: 50,
            alike: 250,
            delay: Duration::from_millis(10),
            jitter: Duration::from_millis(3),
            bottleneck: Some(Bottleneck { bytes_per_second: 2 << 20, queue_len: 50 }),
            packet_len_max: None,
        },
        len: MIB / 2,
        happened: |count| count.lost.min(count.doubled).min(count.damaged).min(count.overtook),
    },
];

pub(super) fn cases() -> Vec<Case> {
    let case = |row: &'static Row| {
        case(&format!("wire-with-{}", row.name), Kind::Long, move |b| transfer(b, row, V4))
    };
    let last = &ROWS[ROWS.len() - 1];
    let name = format!("wire-with-{}-ipv6", last.name);
    let last = super::case(&name, Kind::Long, move |backend| transfer(backend, last, V6));
    ROWS.iter().map(case).chain([last]).collect()
}

/// Down, up, and both at once, at the same time; what arrives is what was sent.
fn transfer(backend: Backend, row: &Row, family: Family) -> Result<()> {
    let pair = Pair::new(backend, row.impairment, SEED)?;
    let work: [&(dyn Fn() -> Result<()> + Sync); 3] =
        [&|| download(family, row.len), &|| upload(family, DIGEST, row.len), &|| {
            exchange(family, row.len / 4)
        }];
    pair.all(&work)?;
    let Pair { relay, lan, .. } = pair;
    for count in relay.stop()? {
        ensure!((row.happened)(&count) > 0, "nothing happened to the frames: {count:?}");
    }
    lan.finish()
}
