use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::CapacityTrace;
use crate::payload::HEADER_BYTES;

fn us(us: u64) -> Time {
    Time::from_us(us)
}

fn link(text: &str, seed: u64) -> Link<Vec<u8>> {
    Link::new(text.parse().expect("a link"), seed)
}

/// A payload that makes a packet of so many bytes on the wire, with a number in it.
fn packet(number: u32, wire_bytes: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(wire_bytes - HEADER_BYTES).expect("small")];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn number(payload: &[u8]) -> u32 {
    u32::from_le_bytes(payload[..4].try_into().expect("four bytes"))
}

/// Sends so many packets, one each `interval_us`, and returns when which came out, woken by the link's own timeouts.
fn run(link: &mut Link<Vec<u8>>, packets: u32, interval_us: u64, wire_bytes: u64) -> Vec<(Time, u32)> {
    let mut out = Vec::new();
    let mut drain = |link: &mut Link<Vec<u8>>, until: Time| {
        while let Some(now) = link.poll_timeout().filter(|&now| now <= until) {
            while let Some(delivery) = link.poll_packet(now) {
                assert_eq!(delivery.due, now, "the timeout names another instant than the packet's");
                out.push((delivery.due, number(&delivery.payload)));
            }
            // A lower bound may be named again, but never for ever: the next is later, or the queue has moved.
            if link.poll_timeout() == Some(now) {
                break;
            }
        }
    };
    for n in 0..packets {
        let now = us(u64::from(n) * interval_us);
        drain(link, now);
        link.handle_packet(now, packet(n, wire_bytes));
    }
    drain(link, Time::NEVER);
    out
}

#[test]
fn a_clean_link_loses_reorders_or_delays() {
    let out = run(&mut link("clean", 1), 1_000, 3, 100);
    assert!(out.iter().enumerate().all(|(n, &(at, number))| number as usize == n && at == us(n as u64 * 3)));
    assert_eq!(out.len(), 1_000);
}

#[test]
fn the_delay_is_another() {
    let mut link = link("delay=10ms", 1);
    link.handle_packet(us(5), packet(0, 100));
    assert_eq!(link.poll_timeout(), Some(us(10_005)));
    assert!(link.poll_packet(us(10_004)).is_none());
    // A late poll learns when the packet was due.
    assert_eq!(link.poll_packet(us(12_000)).map(|delivery| delivery.due), Some(us(10_005)));
    assert_eq!(link.poll_timeout(), None);
}

#[test]
fn jitter_leaves_its_range_or_overtakes_unasked() {
    let out = run(&mut link("delay=10ms jitter=4ms", 2), 5_000, 100, 100);
    assert!(out.is_sorted() && out.iter().map(|&(_, number)| number).is_sorted());
    let out = run(&mut link("delay=10ms jitter=4ms jitter-reorders=yes", 2), 5_000, 100, 100);
    assert!(!out.iter().map(|&(_, number)| number).is_sorted());
    let delays: Vec<u64> = out.iter().map(|&(at, number)| at.as_us() - u64::from(number) * 100).collect();
    assert!(delays.iter().all(|delay| (6_000..=14_000).contains(delay)));
    let mean = delays.iter().sum::<u64>() / delays.len() as u64;
    // Four standard deviations of the mean of 5,000 uniform draws over 8 ms: 131 us.
    assert!(mean.abs_diff(10_000) < 131, "{mean}");
}

#[test]
fn losses_and_bursts_are_counted_wrong() {
    let mut link = link("gilbert-elliott=1%,25%", 3);
    let out = run(&mut link, 500_000, 1, 100);
    let lost: Vec<u32> = {
        let mut came = vec![false; 500_000];
        out.iter().for_each(|&(_, number)| came[number as usize] = true);
        (0..500_000).filter(|&n| !came[n as usize]).collect()
    };
    let bursts = lost.iter().enumerate().filter(|&(i, &n)| i == 0 || lost[i - 1] + 1 != n).count();
    let stats = link.stats();
    assert_eq!((stats.lost, stats.loss_bursts), (lost.len() as u64, bursts as u64));
    assert_eq!(stats.taken, stats.delivered + stats.lost);
    let chain = link.spec().gilbert_elliott.expect("bursts");
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let (loss, burst) = (lost.len() as f64 / 500_000.0, lost.len() as f64 / bursts as f64);
    assert!((loss / chain.loss_rate() - 1.0).abs() < 0.04, "{loss}");
    assert!((burst / chain.mean_burst_packets() - 1.0).abs() < 0.04, "{burst}");
}

#[test]
fn jitter_moves_the_losses_of_a_seed() {
    let lost = |text: &str| {
        let mut numbers: Vec<u32> =
            run(&mut link(text, 4), 10_000, 10, 100).into_iter().map(|(_, number)| number).collect();
        numbers.sort_unstable();
        numbers
    };
    let quiet = lost("delay=5ms loss=5%");
    assert_eq!(quiet, lost("delay=5ms loss=5% jitter=3ms jitter-reorders=yes reorder=10% corrupt=0%"));
    assert!((9_400..9_600).contains(&quiet.len()));
}

#[test]
fn held_back_packets_are_not_overtaken_or_hold_up_others() {
    let mut link = link("delay=1ms reorder=2%,5ms", 5);
    let out = run(&mut link, 50_000, 100, 100);
    let late = out.iter().filter(|&&(at, number)| at == us(u64::from(number) * 100 + 6_000)).count();
    let others = out.iter().filter(|&&(at, number)| at == us(u64::from(number) * 100 + 1_000)).count();
    assert_eq!((late as u64, late + others), (link.stats().reordered, 50_000));
    // Four standard deviations of 50,000 draws at 2 %: 125.
    assert!(late.abs_diff(1_000) < 125, "{late}");
}

#[test]
fn copies_are_missing_or_too_many() {
    let mut link = link("delay=1ms duplicate=10%", 6);
    let out = run(&mut link, 20_000, 10, 100);
    assert_eq!(out.len() as u64, 20_000 + link.stats().duplicated);
    // Four standard deviations of 20,000 draws at 10 %: 170.
    assert!(link.stats().duplicated.abs_diff(2_000) < 170);
    assert_eq!(link.stats().taken + link.stats().duplicated, link.stats().delivered);
}

#[test]
fn corruption_flips_none_or_several_bits() {
    let mut link = link("corrupt=100%", 7);
    let mut positions = std::collections::HashSet::new();
    for _ in 0..5_000 {
        link.handle_packet(Time::ZERO, vec![0; 40]);
        let payload = link.poll_packet(Time::ZERO).expect("due").payload;
        assert_eq!(payload.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        positions.insert(payload);
    }
    assert_eq!(positions.len(), 320, "every bit is hit now and then");
    link.handle_packet(Time::ZERO, Vec::new());
    assert!(link.poll_packet(Time::ZERO).is_some());
}

#[test]
fn the_rate_is_not_kept_over_any_window() {
    // 1,500 bytes at 12 Mbit/s: 1 ms each. Offered three times as much.
    let mut link = link("rate=12mbit queue=15kb delay=3ms", 8);
    let out = run(&mut link, 3_000, 333, 1_500);
    assert!(out.windows(2).all(|pair| pair[1].0.since(pair[0].0).as_us() >= 1_000));
    let busy_us = out[out.len() - 1].0.since(out[0].0).as_us();
    assert_eq!(busy_us, (out.len() as u64 - 1) * 1_000, "the bottleneck idled while packets waited");
    assert_eq!(link.stats().taken, link.stats().delivered + link.stats().dropped_queue);
    assert_eq!(link.stats().queue_bytes_peak, 15_000);
    // Nobody waits longer than the queue is long.
    let longest = out.iter().map(|&(at, number)| at.as_us() - u64::from(number) * 333).max();
    assert!(longest <= Some(3_000 + 10_000), "{longest:?}");
}

#[test]
fn an_idle_link_saves_up_capacity() {
    let mut link = link("rate=12mbit", 8);
    link.handle_packet(us(1_000_000), packet(0, 1_500));
    link.handle_packet(us(1_000_000), packet(1, 1_500));
    assert_eq!(link.poll_packet(us(1_001_000)).map(|delivery| number(&delivery.payload)), Some(0));
    assert!(link.poll_packet(us(1_001_999)).is_none());
    assert!(link.poll_packet(us(1_002_000)).is_some());
}

#[test]
fn a_trace_is_played_at_another_rate() {
    let trace = Arc::new(CapacityTrace::parse("test", "2\n4\n5\n5\n20\n").expect("a trace"));
    let spec = LinkSpec { capacity: Capacity::Trace(trace), ..LinkSpec::default() };
    let mut link = Link::new(spec, 9);
    let out = run(&mut link, 40, 0, 1_500);
    let came: Vec<u64> = out.iter().take(7).map(|&(at, _)| at.as_us()).collect();
    assert_eq!(came, [2_000, 4_000, 5_000, 5_000, 20_000, 22_000, 24_000]);
    assert_eq!(out[39].0, us(8 * 20_000));
}

#[test]
fn a_medium_that_is_down_lets_packets_pass() {
    let mut link = link("delay=1ms blackhole=10ms,5ms", 10);
    let out = run(&mut link, 40, 500, 100);
    let came: Vec<u32> = out.into_iter().map(|(_, number)| number).collect();
    let expected: Vec<u32> = (0..40).filter(|n| !(20..30).contains(n)).collect();
    assert_eq!(came, expected);
    assert_eq!(link.stats().dropped_blackhole, 10);
}

#[test]
fn more_packets_are_under_way_than_memory_allows() {
    let mut link = link("delay=3600s", 11);
    for _ in 0..FLIGHT_PACKETS_MAX + 10 {
        link.handle_packet(Time::ZERO, Vec::new());
    }
    assert_eq!((link.stats().dropped_overflow, link.waiting()), (10, FLIGHT_PACKETS_MAX));
}

#[test]
fn a_change_of_conditions_moves_what_is_under_way_or_forgets_what_waits() {
    let mut link = link("rate=12mbit delay=2ms", 12);
    for n in 0..3 {
        link.handle_packet(Time::ZERO, packet(n, 1_500));
    }
    // The first is under way, the second is leaving, the third waits.
    link.change(us(1_500), "rate=120mbit delay=2ms".parse().expect("a link"));
    let out: Vec<u64> =
        std::iter::from_fn(|| link.poll_packet(us(10_000))).map(|delivery| delivery.due.as_us()).collect();
    assert_eq!(out, [3_000, 4_000, 4_100]);
}

fn texts() -> impl Strategy<Value = String> {
    let word = |words: &'static [&'static str]| proptest::sample::select(words);
    (
        word(&["delay=0", "delay=2ms", "delay=2ms jitter=1ms", "delay=2ms jitter=2ms jitter-reorders=yes"]),
        word(&["", "loss=10%", "gilbert-elliott=5%,30%,90%,1%"]),
        word(&["", "rate=5mbit queue=6kb", "rate=100mbit", "rate=1mbit queue=3packets"]),
        word(&["", "policer=3mbit,4kb", "blackhole=20ms,5ms,30ms"]),
        word(&["", "duplicate=20%", "reorder=10%,3ms", "duplicate=5% corrupt=5%"]),
    )
        .prop_map(|(a, b, c, d, e)| [a, b, c, d, e].join(" "))
}

proptest! {
    #[test]
    fn a_packet_vanishes_uncounted_or_fates_depend_on_polling(
        text in texts(),
        seed in any::<u64>(),
        sends in proptest::collection::vec((0..4_000_u64, 32..1_500_u64), 1..80),
        polls in proptest::collection::vec(any::<bool>(), 80),
    ) {
        let mut polled = link(&text, seed);
        let mut silent = link(&text, seed);
        let (mut out_polled, mut out_silent) = (Vec::new(), Vec::new());
        let mut now = Time::ZERO;
        for (n, (&(gap_us, bytes), &poll)) in sends.iter().zip(&polls).enumerate() {
            now += Span::from_us(gap_us);
            let payload = packet(u32::try_from(n).expect("few"), bytes);
            polled.handle_packet(now, payload.clone());
            silent.handle_packet(now, payload);
            if poll {
                out_polled.extend(std::iter::from_fn(|| polled.poll_packet(now)));
            }
            let stats = polled.stats();
            let settled = stats.delivered + stats.dropped() + polled.waiting() as u64;
            prop_assert_eq!(stats.taken + stats.duplicated, settled);
        }
        now += Span::from_ms(60_000);
        out_polled.extend(std::iter::from_fn(|| polled.poll_packet(now)));
        out_silent.extend(std::iter::from_fn(|| silent.poll_packet(now)));
        prop_assert!(out_polled.iter().map(|delivery| delivery.due).is_sorted());
        prop_assert_eq!(out_polled, out_silent);
        prop_assert_eq!(polled.stats(), silent.stats());
        prop_assert_eq!((polled.waiting(), polled.poll_timeout()), (0, None));
    }
}
