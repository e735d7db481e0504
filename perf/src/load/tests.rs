use super::*;

const MS: u64 = 1_000_000;

fn plan(pace: Pace) -> Plan {
    Plan { pace, warmup_ns: 10 * MS, measured_ns: 100 * MS, reply_ns_max: 1_000 * MS }
}

/// Sends all that is due at an instant; their numbers.
fn send_due(load: &mut Load, now_ns: u64) -> Vec<u64> {
    let mut sent = Vec::new();
    while let Some(due) = load.poll_send(now_ns) {
        load.handle_sent(due, now_ns);
        sent.push(due.number);
    }
    sent
}

#[test]
fn a_late_generator_forgives_itself_the_lateness() {
    let mut load = Load::new(plan(Pace::Open { rate_per_s: 1_000.0 }));
    assert_eq!(send_due(&mut load, 0), [0]);
    // Away for 20 ms: what was due meanwhile leaves at once, back to back.
    assert_eq!(send_due(&mut load, 20 * MS), (1..=20).collect::<Vec<_>>());
    let timed = load.handle_reply(15, 20 * MS + 5_000).unwrap();
    assert_eq!(timed, Timed { at_ns: 5 * MS, latency_ns: 5 * MS + 5_000 });
}

#[test]
fn the_warm_up_is_counted() {
    let mut load = Load::new(plan(Pace::Open { rate_per_s: 1_000.0 }));
    send_due(&mut load, 50 * MS);
    // Due at 9 ms, answered long after the warm-up: it is the schedule that decides.
    assert_eq!(load.handle_reply(9, 50 * MS), None);
    assert_eq!(load.handle_reply(10, 50 * MS).unwrap().at_ns, 0);
    let tally = load.into_tally();
    assert_eq!((tally.sent, tally.replies, tally.lost), (41, 1, 40));
}

#[test]
fn rounding_adds_up_over_a_long_run() {
    let rate_per_s = 30_000.0;
    let hour = 3_600 * 30_000;
    assert_eq!(due_ns(hour, rate_per_s), 3_600 * SECOND_NS);
    assert_eq!(due_ns(1, rate_per_s), 33_333);
}

#[test]
fn a_closed_loop_sends_before_the_reply() {
    let mut load = Load::new(plan(Pace::Closed));
    assert_eq!(send_due(&mut load, 20 * MS), [0]);
    assert!(load.poll_send(30 * MS).is_none());
    assert_eq!(load.handle_reply(0, 30 * MS).unwrap().latency_ns, 10 * MS);
    assert_eq!(send_due(&mut load, 31 * MS), [1]);
}

#[test]
fn a_lost_reply_hangs_a_closed_loop() {
    let mut load = Load::new(Plan { measured_ns: 5_000 * MS, ..plan(Pace::Closed) });
    assert_eq!(send_due(&mut load, 20 * MS), [0]);
    assert_eq!(load.poll_timeout(21 * MS), 1_020 * MS);
    assert_eq!(send_due(&mut load, 1_020 * MS), [1]);
    assert_eq!(load.handle_reply(0, 1_021 * MS), None);
    assert!(load.handle_reply(1, 1_022 * MS).is_some());
    let tally = load.into_tally();
    assert_eq!((tally.sent, tally.lost, tally.late, tally.replies, tally.duplicated), (2, 1, 1, 1, 0));
}

#[test]
fn a_reply_that_comes_twice_is_not_noticed() {
    let mut load = Load::new(plan(Pace::Open { rate_per_s: 1_000.0 }));
    send_due(&mut load, 20 * MS);
    assert!(load.handle_reply(12, 21 * MS).is_some());
    assert_eq!(load.handle_reply(12, 21 * MS), None);
    // Also when nothing before it is unanswered any more.
    for number in 0..12 {
        load.handle_reply(number, 22 * MS);
    }
    assert_eq!(load.handle_reply(5, 23 * MS), None);
    assert_eq!(load.into_tally().duplicated, 2);
}

#[test]
fn a_reply_to_nothing_is_believed() {
    let mut load = Load::new(plan(Pace::Closed));
    assert_eq!(load.handle_reply(7, 20 * MS), None);
    assert_eq!(load.into_tally().replies, 0);
}

#[test]
fn the_end_comes_before_the_last_replies() {
    let mut load = Load::new(plan(Pace::Open { rate_per_s: 1_000.0 }));
    send_due(&mut load, 109 * MS);
    for number in 0..109 {
        load.handle_reply(number, 109 * MS);
    }
    assert!(!load.is_over(120 * MS), "one is on its way");
    assert!(load.poll_send(120 * MS).is_none(), "nothing is due after the end");
    assert_eq!(load.poll_timeout(120 * MS), 1_109 * MS);
    load.handle_reply(109, 130 * MS);
    assert!(load.is_over(130 * MS));
    assert_eq!(load.into_tally().lost, 0);
}

#[test]
fn a_load_whose_replies_never_come_goes_on_for_ever() {
    let mut load = Load::new(plan(Pace::Open { rate_per_s: 1_000.0 }));
    send_due(&mut load, 109 * MS);
    assert!(!load.is_over(1_108 * MS));
    assert!(load.is_over(1_110 * MS));
    let tally = load.into_tally();
    assert_eq!((tally.sent, tally.lost), (100, 100));
}

#[test]
fn a_generator_that_cannot_keep_up_reaches_its_rate() {
    let mut load = Load::new(plan(Pace::Open { rate_per_s: 100_000.0 }));
    // One message a turn of 20 us: half the rate.
    let mut now_ns = 0;
    while !load.is_over(now_ns) {
        if let Some(due) = load.poll_send(now_ns) {
            load.handle_sent(due, now_ns);
            load.handle_reply(due.number, now_ns);
        }
        now_ns += 20_000;
    }
    let tally = load.into_tally();
    assert_eq!(tally.asked_per_s, Some(100_000.0));
    assert!((45_000.0..55_000.0).contains(&tally.achieved_per_s), "{}", tally.achieved_per_s);
}

#[test]
fn saturating_has_no_bound() {
    let mut load = Load::new(plan(Pace::Saturating));
    assert_eq!(send_due(&mut load, 0).len(), SATURATING_WINDOW);
    load.handle_reply(3, MS);
    assert_eq!(send_due(&mut load, MS).len(), 1);
}

/// Coordinated omission: a load that waits for a server that stalls asks nothing meanwhile, and times one slow
/// answer where its users would have seen hundreds.
#[test]
fn a_server_that_stalls_hides_behind_the_load() {
    const RATE_PER_S: u64 = 10_000;
    const SERVICE_NS: u64 = 10_000;
    const STALL: std::ops::Range<u64> = 400 * MS..500 * MS;
    let plan = Plan {
        pace: Pace::Open { rate_per_s: RATE_PER_S as f64 },
        warmup_ns: 0,
        measured_ns: 1_000 * MS,
        reply_ns_max: 1_000 * MS,
    };
    let mut load = Load::new(plan);
    let mut recorder =
        crate::record::Recorder::new(crate::record::INTERVAL, std::time::Duration::from_secs(1));
    let mut queue = std::collections::VecDeque::new();
    let (mut now_ns, mut server_free_ns) = (0, 0);
    while !load.is_over(now_ns) {
        queue.extend(send_due(&mut load, now_ns));
        while !queue.is_empty() && !STALL.contains(&now_ns) && server_free_ns <= now_ns {
            server_free_ns = now_ns.max(server_free_ns) + SERVICE_NS;
            let number = queue.pop_front().unwrap();
            let timed = load.handle_reply(number, server_free_ns).unwrap();
            recorder.record(timed.at_ns, timed.latency_ns);
        }
        now_ns += SERVICE_NS;
    }
    let tally = load.into_tally();
    assert_eq!((tally.sent, tally.replies, tally.lost), (RATE_PER_S, RATE_PER_S, 0));
    assert!(tally.achieved_per_s > RATE_PER_S as f64 * 0.99);
    let total = recorder.total();
    assert_eq!(total.len(), RATE_PER_S, "each message due during the stall is charged for it");
    let ms = |quantile| total.value_at_quantile(quantile) as f64 / MS as f64;
    assert!((99.0..101.0).contains(&ms(1.0)), "max {} ms", ms(1.0));
    assert!((85.0..101.0).contains(&ms(0.99)), "p99 {} ms", ms(0.99));
    assert!(ms(0.5) < 0.1, "p50 {} ms", ms(0.5));
    // 1,000 were due while it stalled, and those behind them waited, too.
    let delayed = total.iter_recorded().filter(|step| step.value_iterated_to() > 2 * MS);
    let delayed: u64 = delayed.map(|step| step.count_since_last_iteration()).sum();
    assert!(delayed >= 1_000, "{delayed} were delayed");
}

#[test]
fn a_rate_that_not_even_the_warm_up_met_is_told_as_none_at_all() {
    let mut load = Load::new(plan(Pace::Open { rate_per_s: 1e9 }));
    for number in 0..100 {
        load.handle_sent(Due { number, due_ns: number }, 10 * MS);
    }
    let tally = load.into_tally();
    assert_eq!(tally.sent, 0);
    assert!((tally.achieved_per_s - 10_000.0).abs() < 1.0, "{tally:?}");
}
