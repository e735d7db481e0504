use super::*;

const SYMBOL: [u8; 200] = [7; 200];

/// A sender whose packets go one a millisecond.
struct Sending {
    sender: FecSender,
    now: Time,
    packet: u64,
}

impl Sending {
    /// Of `sent` packets until now, `lost` were lost.
    fn new(sent: u64, lost: u64) -> Self {
        let now = Time::from_us(1_000_000);
        Self { sender: FecSender::new(now, FecConfig::default(), 32, 40, sent, lost), now, packet: 100 }
    }

    /// Sends symbols, without repairs; returns their packets.
    fn symbols(&mut self, count: u64) -> Vec<u64> {
        let packets = (self.packet..self.packet + count).collect();
        for _ in 0..count {
            self.now += Span::from_ms(1);
            self.sender.on_symbol(self.now, self.packet, 250, &SYMBOL, false);
            self.packet += 1;
        }
        packets
    }

    /// Sends the repairs that are due; returns their packets and how many symbols each covers.
    fn repairs(&mut self) -> Vec<(u64, u64)> {
        let mut sent = Vec::new();
        while let Some(count) = self.sender.repair_due() {
            let mut payload = vec![0; self.sender.repair_payload_bytes(count)];
            self.sender.write_repair(count, &mut payload);
            self.sender.on_repair(self.packet, 260, count);
            sent.push((self.packet, count));
            self.packet += 1;
        }
        sent
    }

    fn lose(&mut self, packets: &[u64]) -> Vec<Verdict> {
        packets.iter().map(|&packet| self.sender.on_lost(self.now, packet)).collect()
    }

    fn abandoned(&mut self) -> Vec<u64> {
        self.sender.review();
        std::iter::from_fn(|| self.sender.poll_abandoned()).collect()
    }

    fn after(&mut self, ms: u64) -> Vec<(u64, u64)> {
        self.now += Span::from_ms(ms);
        self.sender.handle_timeout(self.now);
        self.repairs()
    }
}

#[test]
fn what_repairs_will_bring_back_is_sent_again() {
    let mut sending = Sending::new(100, 1);
    let packets = sending.symbols(8);
    let repairs = sending.repairs();
    assert!(!repairs.is_empty());
    packets[1..].iter().for_each(|&packet| sending.sender.on_acked(packet));
    assert_eq!(sending.lose(&packets[..1]), [Verdict::Hold]);
    assert!(sending.abandoned().is_empty());
    assert_eq!(sending.sender.oldest_held_sent(), Some(Time::from_us(1_001_000)));
    assert_eq!(sending.sender.on_recovered(40), Some(packets[0]));
    assert_eq!(sending.sender.on_recovered(40), None, "old news");
    assert!(sending.sender.is_known(packets[0]) && !sending.sender.is_known(repairs[0].0));
    assert!(sending.abandoned().is_empty());
}

#[test]
fn what_its_lost_repair_does_not_bring_back_is_waited_for() {
    let mut sending = Sending::new(100, 1);
    let packets = sending.symbols(8);
    let repairs = sending.repairs();
    sending.lose(&packets[2..3]);
    for (packet, _) in repairs {
        assert!(sending.abandoned().is_empty());
        assert_eq!(sending.lose(&[packet]), [Verdict::Resend]);
    }
    assert_eq!(sending.abandoned(), packets[2..3]);
    assert!(sending.abandoned().is_empty(), "once");
    sending.symbols(8);
    assert!(
        sending.repairs().iter().all(|repair| repair.1 <= 13),
        "what is given up would be missing in them"
    );
}

#[test]
fn a_repair_that_came_in_vain_is_waited_for() {
    let mut sending = Sending::new(100, 1);
    let packets = sending.symbols(8);
    let repairs = sending.repairs();
    sending.lose(&packets[..1]);
    repairs.iter().for_each(|repair| sending.sender.on_acked(repair.0));
    assert_eq!(sending.abandoned(), packets[..1]);
}

#[test]
fn a_burst_waits_for_repairs_that_are_too_few() {
    let mut sending = Sending::new(100, 1);
    let packets = sending.symbols(10);
    let repairs = sending.repairs();
    sending.sender.on_acked(packets[9]);
    sending.lose(&packets[1..2 + repairs.len()]);
    assert_eq!(sending.abandoned(), packets[1..2 + repairs.len()], "the oldest first");
}

#[test]
fn a_symbol_is_forgotten_with_what_it_held() {
    let mut sending = Sending::new(100, 1);
    let packets = sending.symbols(4);
    sending.repairs();
    sending.lose(&packets[..1]);
    let mut abandoned = Vec::new();
    for _ in 0..100 {
        let sent = sending.symbols(1);
        sending.repairs();
        sending.sender.on_acked(sent[0]);
        abandoned.extend(std::iter::from_fn(|| sending.sender.poll_abandoned()));
    }
    assert_eq!(abandoned, packets[..1]);
    assert_eq!(sending.lose(&packets[1..2]), [Verdict::Resend], "too old to be followed");
}

#[test]
fn a_lone_message_waits_for_more_or_gets_a_copy_too_many() {
    for (lost, copies) in [(1, 1), (20, 2)] {
        let mut sending = Sending::new(200, lost);
        sending.symbols(1);
        assert!(sending.repairs().is_empty());
        assert_eq!(sending.sender.timeout(), Some(sending.now + Span::from_ms(5)));
        let sent = (0..5).map(|_| sending.after(5).len()).sum::<usize>();
        assert_eq!((sent, sending.sender.timeout()), (copies, None), "{lost}");
    }
    let mut sending = Sending::new(200, 1);
    let packets = sending.symbols(1);
    sending.sender.on_acked(packets[0]);
    assert!(sending.after(5).is_empty(), "it has come");
}

#[test]
fn what_is_sent_again_has_no_repair_of_its_own() {
    let mut sending = Sending::new(100, 1);
    sending.sender.on_symbol(sending.now, sending.packet, 250, &SYMBOL, true);
    sending.packet += 1;
    assert_eq!(sending.repairs().len(), 1);
}

#[test]
fn a_backlog_or_a_path_that_loses_next_to_nothing_is_protected() {
    let mut sending = Sending::new(100, 1);
    let rtt = Span::from_ms(20);
    assert!(sending.sender.is_worth_it(sending.now, rtt));
    sending.sender.on_backlog(sending.now);
    assert!(!sending.sender.is_worth_it(sending.now, rtt));
    assert!(sending.sender.is_worth_it(sending.now + Span::from_ms(21), rtt));
    let clean = LossReport { expected: 200_000, ..LossReport::default() };
    sending.sender.on_report(sending.now, &clean);
    assert!(!sending.sender.is_worth_it(sending.now + Span::from_ms(21), rtt));
    assert!(!sending.sender.is_at_rest(sending.now));
    assert!(sending.sender.is_at_rest(sending.now + Span::from_ms(60_000)));
}
