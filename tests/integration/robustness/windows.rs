//! Windows that are closed, tiny, taken back, or scaled; the guest's own window.
use super::lan::Lan;
use super::packet::{MSS, SYN, Segment, mss, window_scale};
use super::peer::{Peer, Talk};
use super::services::{
    HASH_LEN, LATE_DIGEST, SOURCE, STREAM_ECHO, check_digest, check_download, noise,
};
use super::{Kind, case};
use crate::backend::Backend;
use crate::case::Case;
use anyhow::{Context, Result, ensure};

pub(super) fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(Backend) -> Result<()>| case(name, Kind::Long, body);
    vec![
        case("zero-window-is-probed-and-reopened", zero_window),
        case("tiny-windows-are-kept", tiny_windows),
        case("a-window-that-stays-tiny", window_that_stays_tiny),
        case("a-window-taken-back", shrinking_window),
        case("window-scales", window_scales),
        case("segment-sizes-announced", segment_sizes),
        case("own-window-closes-and-reopens", own_window),
        case("sequence-numbers-wrap-around", wrap_around),
    ]
}

/// Asks the guest for `len` bytes.
fn ask(talk: &mut Talk<'_>, len: usize) -> Result<()> {
    talk.say(&(len as u64).to_be_bytes())
}

/// With the window closed, at most a byte comes at a time, and again and again. With the window open,
/// all comes.
fn zero_window(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let mut talk = peer.connect(4000, SOURCE)?;
    talk.window = 0;
    ask(&mut talk, 100_000)?;
    for _ in 0..3 {
        // A probe has one byte, or none and a number that was acknowledged already.
        let is_probe =
            |s: &Segment| !s.payload.is_empty() || s.seq == talk.expected.wrapping_sub(1);
        let probe = talk.expect("a probe of the window", is_probe)?;
        ensure!(probe.payload.len() <= 1, "sent into a closed window: {}", probe.shown());
        talk.acknowledge()?;
    }
    talk.window = 65535;
    talk.acknowledge()?;
    check_download(&talk.hear_to_end()?, 100_000)?;
    talk.finish()?;
    lan.finish()
}

/// Nothing is ever sent beyond a window, however small.
fn tiny_windows(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    for (port, window, len) in [(4000, 1, 50), (4001, 100, 10_000), (4002, 1461, 100_000)] {
        let mut talk = peer.connect_with(Segment { window, ..Peer::syn(port, SOURCE, 7) })?;
        ask(&mut talk, len)?;
        let mut all = Vec::new();
        while all.len() < len + HASH_LEN {
            let heard = hear_within(&mut talk, window)?;
            all.extend(heard);
        }
        check_download(&all, len).with_context(|| format!("a window of {window}"))?;
    }
    lan.finish()
}

/// Takes the next data, none of which may lie beyond the window, and acknowledges them.
fn hear_within(talk: &mut Talk<'_>, window: u16) -> Result<Vec<u8>> {
    let segment = talk.expect("data", |s| s.seq == talk.expected && !s.payload.is_empty())?;
    ensure!(segment.payload.len() <= usize::from(window), "beyond {window}: {}", segment.shown());
    talk.expected = talk.expected.wrapping_add(u32::try_from(segment.payload.len())?);
    talk.acknowledge()?;
    Ok(segment.payload)
}

/// A window that was large and stays tiny is used in the end (RFC 9293, 3.8.6.2.1: the override timeout).
fn window_that_stays_tiny(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let mut talk = peer.connect(4000, SOURCE)?;
    talk.window = 1;
    ask(&mut talk, 10_000)?;
    let mut all = Vec::new();
    for _ in 0..4 {
        all.extend(hear_within(&mut talk, 1)?);
    }
    talk.window = 65535;
    talk.acknowledge()?;
    all.extend(talk.hear_to_end()?);
    check_download(&all, 10_000)?;
    lan.finish()
}

/// A peer that takes back what it had announced, which it should not, gets all in the end.
fn shrinking_window(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let mut talk = peer.connect(4000, SOURCE)?;
    ask(&mut talk, 200_000)?;
    // What was announced before is under way; of what comes, only so much is taken.
    let mut all = Vec::new();
    for window in [0, 10, 3000, 0, 65535] {
        let is_next = |s: &Segment| s.seq == talk.expected && !s.payload.is_empty();
        let segment = talk.expect("data", is_next)?;
        talk.expected = talk.expected.wrapping_add(u32::try_from(segment.payload.len())?);
        all.extend(segment.payload);
        talk.window = window;
        talk.acknowledge()?;
    }
    all.extend(talk.hear_to_end()?);
    check_download(&all, 200_000)?;
    talk.finish()?;
    lan.finish()
}

/// Scales up to 14 count, and larger ones as 14 (RFC 7323, 2.3).
fn window_scales(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    for (port, shift) in [(4000, 0), (4001, 7), (4002, 14), (4003, 15), (4004, 255)] {
        let options = [mss(1460), window_scale(shift)].concat();
        let mut talk = peer.connect_with(Segment { options, ..Peer::syn(port, SOURCE, 7) })?;
        talk.window = if shift == 0 { 65535 } else { 1 << (14 - shift.min(14)) };
        ask(&mut talk, 200_000)?;
        let all = talk.hear_to_end().with_context(|| format!("a scale of {shift}"))?;
        check_download(&all, 200_000)?;
        talk.finish()?;
    }
    lan.finish()
}

/// No segment is larger than announced; without an announcement, than 536 bytes (RFC 9293, 3.7.1).
/// Absurdly small announcements may be exceeded: nobody has to cut a page into single bytes.
fn segment_sizes(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let rows = [
        (mss(1460), 1460),
        (mss(536), 536),
        (mss(100), 100),
        (mss(48), 536),
        (mss(1), 536),
        (mss(0), 536),
        (Vec::new(), 536),
        (mss(65535), 1460),
    ];
    for (port, (options, max)) in (4000..).zip(rows) {
        let syn = Segment { options: options.clone(), ..Peer::syn(port, SOURCE, 7) };
        let mut talk = peer.connect_with(syn)?;
        ask(&mut talk, 20_000)?;
        let mut all = Vec::new();
        while all.len() < 20_000 + HASH_LEN {
            all.extend(
                hear_within(&mut talk, max).with_context(|| format!("options {options:?}"))?,
            );
        }
        check_download(&all, 20_000)?;
    }
    let mut talk = peer.start(&Peer::syn(5000, SOURCE, 7))?;
    let answer = talk.expect("SYN and ACK", |s| s.has(SYN))?;
    talk.take_syn(&answer);
    ensure!(answer.option(MSS) == Some(&1460_u16.to_be_bytes()), "{}", answer.shown());
    lan.finish()
}

/// A service that does not read: the guest takes no more than it announced, keeps its window closed while
/// it is asked, and opens it by itself when the service reads.
fn own_window(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    let options = [mss(1460), window_scale(0)].concat();
    let mut talk = peer.start(&Segment { options, ..Peer::syn(4000, LATE_DIGEST, 7) })?;
    let answer = talk.expect("SYN and ACK", |s| s.has(SYN))?;
    talk.take_syn(&answer);
    talk.acknowledge()?;
    let bytes = noise(1, 400_000);
    let (mut sent, mut window) = (0, usize::from(answer.window));
    let mut was_closed = false;
    while sent < bytes.len() {
        let part = &bytes[sent..bytes.len().min(sent + window)];
        talk.say(part)?;
        sent += part.len();
        let last = talk.expect("an acknowledgement", |s| s.ack == talk.next)?;
        window = usize::from(last.window) << talk.shift;
        if window == 0 && sent < bytes.len() {
            was_closed = true;
            window = closed_until_read(&talk)?;
        }
    }
    ensure!(was_closed, "the window was never closed, although nobody read");
    talk.finish()?;
    check_digest(&talk.hear_to_end()?, &bytes)?;
    lan.finish()
}

/// A byte beyond the window is not taken but answered; then the window opens, and not just by a little.
fn closed_until_read(talk: &Talk<'_>) -> Result<usize> {
    talk.send(&talk.data_at(0, b"x"))?;
    let is_answer = |s: &Segment| s.ack == talk.next;
    let answer = talk.expect("an answer to the probe", is_answer)?;
    let mut window = usize::from(answer.window) << talk.shift;
    while window == 0 {
        let update = talk.expect("a window that is open again", is_answer)?;
        window = usize::from(update.window) << talk.shift;
    }
    ensure!(window >= 536, "a silly window of {window} bytes (RFC 9293, 3.8.6.2.2)");
    Ok(window)
}

/// Numbers of the peer that wrap around in the middle of an exchange.
fn wrap_around(backend: Backend) -> Result<()> {
    let lan = Lan::new(backend)?;
    let peer = Peer::new(&lan.wire)?;
    for (port, before) in [(4000, 0), (4001, 1), (4002, 2), (4003, 1000), (4004, 20_000)] {
        let seq = 0_u32.wrapping_sub(before);
        let mut talk = peer.connect_with(Peer::syn(port, STREAM_ECHO, seq))?;
        let bytes = noise(u64::from(before), 40_000);
        for part in bytes.chunks(4000) {
            talk.say(part)?;
            let back = talk.hear(part.len()).with_context(|| format!("{before} before 0"))?;
            ensure!(back == part, "other bytes came back, {before} before 0");
        }
        talk.finish()?;
        ensure!(talk.hear_to_end()?.is_empty(), "more came back than was sent");
    }
    lan.finish()
}
