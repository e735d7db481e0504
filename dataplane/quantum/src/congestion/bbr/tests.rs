//! What needs a path that cannot be had from a link: acknowledgements made by hand.

use wire::{Span, Time};

use super::*;
use crate::congestion::RateSample;

const DATAGRAM: u64 = 1_200;

/// A path that answers a round at a time.
struct Rounds {
    bbr: Bbr,
    now: Time,
    delivered_bytes: u64,
}

impl Rounds {
    fn new() -> Self {
        Self { bbr: Bbr::new(DATAGRAM, 64 << 20, 7), now: Time::from_us(1_000_000), delivered_bytes: 0 }
    }

    fn sample(&self, bytes_per_s: u64, rtt: Span, is_app_limited: bool) -> AckSample {
        let bytes = (bytes_per_s * rtt.as_us() / 1_000_000).max(DATAGRAM);
        let rate = RateSample {
            bytes_per_s,
            delivered_bytes: bytes,
            lost_bytes: 0,
            prior_delivered_bytes: self.delivered_bytes,
            total_delivered_bytes: self.delivered_bytes + bytes,
            in_flight_at_sending_bytes: bytes,
            is_app_limited,
        };
        let sent = Time::from_us(self.now.as_us() - rtt.as_us());
        let in_flight_bytes = 2 * DATAGRAM;
        AckSample {
            bytes,
            sent,
            rtt: Some(rtt),
            smoothed_rtt: rtt,
            window_limited: true,
            in_flight_bytes,
            rate,
        }
    }

    fn round(&mut self, bytes_per_s: u64, rtt: Span) {
        self.now += rtt;
        let sample = self.sample(bytes_per_s, rtt, false);
        self.delivered_bytes = sample.rate.total_delivered_bytes;
        self.bbr.on_ack(self.now, &sample);
    }

    fn lose(&mut self, packets: u64, in_flight_bytes: u64) {
        for lost in 1..=packets {
            let packet = LostPacket {
                bytes: DATAGRAM,
                sent: self.now,
                is_run_start: true,
                lost_bytes: lost * DATAGRAM,
                in_flight_at_sending_bytes: in_flight_bytes,
                total_delivered_bytes: self.delivered_bytes,
                is_app_limited: false,
            };
            self.bbr.on_packet_lost(self.now, &packet);
        }
        let event = LossEvent { sent: self.now, is_persistent: false, in_flight_bytes };
        assert!(self.bbr.on_congestion_event(self.now, &event));
    }

    /// Goes on until a state, at most for so many rounds.
    fn reach(&mut self, state: State, bytes_per_s: u64, rtt: Span) {
        for _ in 0..2_000 {
            if self.bbr.state == state {
                return;
            }
            self.round(bytes_per_s, rtt);
        }
        panic!("never in {state:?}, but in {:?}", self.bbr.state);
    }
}

#[test]
fn entering_and_exiting_probe_rtt_during_startup() {
    let mut path = Rounds::new();
    let mut rate = 100_000;
    let mut has_probed = false;
    // A Startup so slow that five seconds go by, while the round trip grows.
    for round in 0..14 {
        rate = rate * 13 / 10;
        path.round(rate, Span::from_ms(900 + 100 * round));
        has_probed |= path.bbr.state == State::ProbeRtt;
        assert!(!path.bbr.full_pipe.is_reached);
    }
    assert!(has_probed, "{:?}", path.bbr);
    path.reach(State::Startup, rate, Span::from_ms(900));
}

#[test]
fn a_plateau_without_a_queue_ends_a_probe_before_three_rounds() {
    let (rate, rtt) = (6_000_000, Span::from_ms(30));
    let mut path = Rounds::new();
    path.reach(State::ProbeBwUp, rate, rtt);
    let begun = path.bbr.rounds.count;
    path.reach(State::ProbeBwDown, rate, rtt);
    assert_eq!(path.bbr.rounds.count - begun, 3);
}

#[test]
fn a_probe_that_makes_a_queue_goes_on_for_three_rounds() {
    let (rate, rtt) = (6_000_000, Span::from_ms(30));
    let mut path = Rounds::new();
    path.reach(State::ProbeBwUp, rate, rtt);
    let begun = path.bbr.rounds.count;
    path.reach(State::ProbeBwDown, rate, Span::from_ms(40));
    assert_eq!(path.bbr.rounds.count - begun, 2);
}

#[test]
fn a_spurious_loss_ends_a_probe_for_good() {
    let (rate, rtt) = (6_000_000, Span::from_ms(30));
    let mut path = Rounds::new();
    path.reach(State::ProbeBwUp, rate, rtt);
    let longterm = path.bbr.inflight_longterm;
    path.lose(20, 180_000);
    assert_eq!(path.bbr.state, State::ProbeBwDown);
    assert!(path.bbr.inflight_longterm < longterm);
    path.bbr.on_spurious_loss(path.now);
    assert_eq!((path.bbr.state, path.bbr.inflight_longterm), (State::ProbeBwRefill, longterm));
}

#[test]
fn marks_of_the_network_are_not_congestion() {
    let (rate, rtt) = (6_000_000, Span::from_ms(30));
    let mut path = Rounds::new();
    path.reach(State::ProbeBwUp, rate, rtt);
    assert!(path.bbr.on_ecn_ce(path.now, path.now, 40));
    path.round(rate, rtt);
    assert_eq!(path.bbr.state, State::ProbeBwDown);
    assert!(path.bbr.inflight_longterm != UNBOUNDED);
    path.bbr.on_spurious_loss(path.now);
    assert_eq!(path.bbr.state, State::ProbeBwDown, "a mark is never spurious");
    path.reach(State::ProbeBwCruise, rate, rtt);
    for _ in 0..2 {
        path.bbr.on_ecn_ce(path.now, path.now, 40);
        path.round(rate / 2, rtt);
    }
    assert!(path.bbr.bandwidth.shortterm < rate, "{:?}", path.bbr.bandwidth);
}

#[test]
fn heavy_losses_do_not_slow_it_down_or_light_ones_do() {
    let (rate, rtt) = (6_000_000, Span::from_ms(30));
    for (packets, is_heavy) in [(1, false), (2, false), (20, true)] {
        let mut path = Rounds::new();
        path.reach(State::ProbeBwCruise, rate, rtt);
        for _ in 0..2 {
            path.lose(packets, 180_000);
            path.round(rate * 95 / 100, rtt);
        }
        assert_eq!(path.bbr.bandwidth.shortterm < rate, is_heavy, "{packets} lost");
    }
}

#[test]
fn all_flows_probe_at_the_same_time() {
    let first = |seed: u64| {
        let mut cycle = Cycle::new(seed);
        cycle.pick_wait();
        cycle.wait
    };
    let waits: Vec<_> = (0..100).map(first).collect();
    assert!(waits.iter().all(|wait| (Span::from_ms(2_000)..Span::from_ms(3_000)).contains(wait)));
    let early = waits.iter().filter(|wait| **wait < Span::from_ms(2_500)).count();
    assert!((30..70).contains(&early), "{early} of 100");
    assert_eq!(first(5), first(5), "the same seed, the same flow");
}

#[test]
fn an_idle_connection_holds_half_a_kilobyte_of_this() {
    assert!(size_of::<Bbr>() <= 512, "{}", size_of::<Bbr>());
}
