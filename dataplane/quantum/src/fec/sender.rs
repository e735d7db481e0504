//! The sending side of forward error correction: what is protected, when repairs leave, and what is not sent again while
//! repairs may bring it back (`PROTOCOL.md`, section "Forward error correction").

use std::collections::VecDeque;

use wire::fec::LossReport;
use wire::{Span, Time};

use super::estimate::Estimator;
use super::policy::{Demand, Plan, UNITS_PER_SYMBOL, plan};
use super::{Encoder, REPAIR_INDICES, WINDOW_SYMBOLS_MAX};
use crate::config::FecConfig;

/// The symbols whose fate is followed; older ones are left to retransmission.
const FOLLOWED_SYMBOLS: usize = 64;
/// A symbol that is missing this many symbols later is sent again: no repair covers it any more.
const GIVE_UP_SYMBOLS: u64 = 56;
/// The repairs that are followed; the oldest counts as lost when there is one more.
const FOLLOWED_REPAIRS_MAX: usize = 64;
/// Repairs that wait to be sent, at most: more would come too late.
const DUE_REPAIRS_MAX: u8 = 4;
/// The plan is made anew after so many symbols.
const PLAN_SYMBOLS: u32 = 64;
/// Repairs come at least this often whatever share of the traffic they are: bytes per second.
const FREE_BYTES_PER_S: u64 = 64_000;
/// For each part of packets that is lost, so many parts of redundancy may be added on top of the configured bound.
const OVERHEAD_PER_LOSS: f64 = 4.0;
/// No loss for so long: the path needs no repairs.
const REST_AFTER: Span = Span::from_ms(60_000);
/// Less loss than this is left to retransmission.
const LOSS_WORTH_REPAIRS: f64 = 0.000_2;

const _: () = assert!(WINDOW_SYMBOLS_MAX < GIVE_UP_SYMBOLS as usize);
const _: () = assert!((GIVE_UP_SYMBOLS as usize) < FOLLOWED_SYMBOLS);
const _: () = assert!(FOLLOWED_SYMBOLS == u64::BITS as usize);

/// What has become of a symbol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// Sent, and nothing heard.
    InFlight,
    /// The receiver has it.
    Known,
    /// Its packet was lost; repairs may still bring it back.
    Held,
    /// Its packet was lost, and what it held is sent again.
    Abandoned,
}

#[derive(Clone, Copy, Debug)]
struct SentSymbol {
    packet: u64,
    sent: Time,
    fate: Fate,
}

/// A repair under way, or one that has come and is of use with others.
#[derive(Clone, Copy, Debug)]
struct SentRepair {
    packet: u64,
    first: u64,
    last: u64,
    has_come: bool,
}

impl SentRepair {
    const fn covers(&self, symbol: u64) -> bool {
        self.first <= symbol && symbol <= self.last
    }
}

/// What to do with a packet that was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It carried nothing that repairs protect: send again what must arrive.
    Resend,
    /// Wait: the receiver has it, or may have it soon.
    Hold,
}

/// The sender's half, made when a path has lost a packet.
pub(crate) struct FecSender {
    config: FecConfig,
    encoder: Encoder,
    estimator: Estimator,
    plan: Plan,
    /// Symbols until the plan is made anew.
    plan_due: u32,
    /// How many symbols the peer can use repairs of.
    window: u64,
    symbols: [SentSymbol; FOLLOWED_SYMBOLS],
    /// The first symbol that the followed ones begin with.
    first: u64,
    /// Symbols below are not covered any more: they are known, or sent again.
    floor: u64,
    /// By number modulo [`FOLLOWED_SYMBOLS`]: abandoned, and not polled yet.
    abandoned: u64,
    held: usize,
    repairs: VecDeque<SentRepair>,
    largest_acked: u64,
    /// Units of symbols since the last repair.
    units: u32,
    due: u8,
    /// When the oldest symbol that no repair covers was sent.
    uncovered_since: Option<Time>,
    /// Repairs since the last symbol, and when the last of them was due.
    tail_repairs: u8,
    last_due: Time,
    next_index: u8,
    /// Means over recent symbols and repairs.
    symbol_packet_bytes: u64,
    repair_packet_bytes: u64,
    last_loss: Time,
    /// When the window or the pacer last held something back.
    backlog_at: Option<Time>,
}

impl FecSender {
    /// `sent` and `lost` are the packets of the connection so far; the next symbol has the number `next`.
    pub(crate) fn new(now: Time, config: FecConfig, window: u64, next: u64, sent: u64, lost: u64) -> Self {
        let plan = Plan { interval_units: 3 * UNITS_PER_SYMBOL, tail_repairs: 1 };
        Self {
            config,
            encoder: Encoder::new(next),
            estimator: Estimator::new(sent, lost),
            plan,
            plan_due: 0,
            window: window.min(WINDOW_SYMBOLS_MAX as u64),
            symbols: [SentSymbol { packet: 0, sent: Time::ZERO, fate: Fate::Known }; FOLLOWED_SYMBOLS],
            first: next,
            floor: next,
            abandoned: 0,
            held: 0,
            repairs: VecDeque::new(),
            largest_acked: 0,
            units: 0,
            due: 0,
            uncovered_since: None,
            tail_repairs: 0,
            last_due: now,
            next_index: 0,
            symbol_packet_bytes: 0,
            repair_packet_bytes: 0,
            last_loss: now,
            backlog_at: None,
        }
    }

    /// The number of the next symbol.
    pub(crate) fn next_number(&self) -> u64 {
        self.encoder.next_number()
    }

    /// Whether new symbols are worth their repairs: there is loss, and no backlog within the last `round_trip`, which
    /// would pay for repairs with its throughput.
    pub(crate) fn is_worth_it(&self, now: Time, round_trip: Span) -> bool {
        let is_backlogged = self.backlog_at.is_some_and(|at| now.since(at) <= round_trip);
        !is_backlogged && self.estimator.chain().loss >= LOSS_WORTH_REPAIRS
    }

    /// Something had to wait for the window or the pacer.
    pub(crate) const fn on_backlog(&mut self, now: Time) {
        self.backlog_at = Some(now);
    }

    /// Whether all of this can be dropped: nothing was lost for long, and nothing waits for repairs.
    pub(crate) fn is_at_rest(&self, now: Time) -> bool {
        self.held == 0 && self.abandoned == 0 && now.since(self.last_loss) >= REST_AFTER
    }

    /// A symbol leaves in `packet` of `packet_bytes`. A symbol that holds what was lost before is repaired at once. What is
    /// too old for repairs is given up: [`poll_abandoned`](Self::poll_abandoned) is to be called before the next symbol.
    pub(crate) fn on_symbol(
        &mut self,
        now: Time,
        packet: u64,
        packet_bytes: usize,
        symbol: &[u8],
        is_resend: bool,
    ) {
        let number = self.encoder.push(symbol);
        let slot_index = slot(number);
        let slot = &mut self.symbols[slot_index];
        debug_assert!(slot.fate != Fate::Held, "given up before its place is needed");
        debug_assert!(self.abandoned & (1 << slot_index) == 0, "polled before its place is needed");
        *slot = SentSymbol { packet, sent: now, fate: Fate::InFlight };
        self.first = self.first.max((number + 1).saturating_sub(FOLLOWED_SYMBOLS as u64));
        self.symbol_packet_bytes = mean(self.symbol_packet_bytes, packet_bytes);
        self.uncovered_since.get_or_insert(now);
        self.tail_repairs = 0;
        self.plan_due = self.plan_due.saturating_sub(1);
        if self.plan_due == 0 {
            self.make_plan();
        }
        self.units += if is_resend { self.plan.interval_units } else { UNITS_PER_SYMBOL };
        while self.units >= self.plan.interval_units {
            self.units -= self.plan.interval_units;
            self.queue_repair(now);
        }
        self.give_up_old();
    }

    fn make_plan(&mut self) {
        self.plan_due = PLAN_SYMBOLS;
        self.plan = plan(&Demand {
            chain: self.estimator.chain(),
            symbol_interval: self.symbol_interval(),
            deadline: self.config.recovery_deadline,
            repair_timer: self.config.repair_timer,
            unrecovered_max: self.config.unrecovered_max,
            overhead_max: self.overhead_max(),
            repair_cost: self.repair_bytes() as f64 / self.symbol_packet_bytes.max(1) as f64,
        });
    }

    fn overhead_max(&self) -> f64 {
        self.config.overhead_max + OVERHEAD_PER_LOSS * self.estimator.loss()
    }

    /// What a repair's packet takes: that of a symbol and a little, before the first was sent.
    fn repair_bytes(&self) -> u64 {
        if self.repair_packet_bytes == 0 { self.symbol_packet_bytes } else { self.repair_packet_bytes }
    }

    /// The mean span between recent symbols.
    fn symbol_interval(&self) -> Span {
        let newest = self.next_number() - 1;
        let oldest = self.first.max(newest.saturating_sub(WINDOW_SYMBOLS_MAX as u64));
        let span = self.symbols[slot(newest)].sent.since(self.symbols[slot(oldest)].sent);
        Span::from_us(span.as_us() / (newest - oldest).max(1))
    }

    /// How long a symbol waits for its first repair. Where repairs by the clock would cost more than they may, they come
    /// by the count of symbols.
    fn repair_timer(&self) -> Span {
        let interval = self.symbol_interval();
        let timer = self.config.repair_timer.as_us();
        let symbols = 1 + timer / interval.as_us().max(1);
        let share = self.repair_bytes() as f64 / (symbols * self.symbol_packet_bytes.max(1)) as f64;
        let bytes_per_s = self.repair_bytes() * 1_000_000 / timer.max(interval.as_us()).max(1);
        if share <= self.overhead_max() || bytes_per_s <= FREE_BYTES_PER_S {
            return self.config.repair_timer;
        }
        Span::from_us(interval.as_us() * u64::from(self.plan.interval_units.div_ceil(UNITS_PER_SYMBOL)))
            .max(self.config.repair_timer)
    }

    /// When the next repair is due by the clock.
    pub(crate) fn timeout(&self) -> Option<Time> {
        let since = match self.uncovered_since {
            Some(since) => since,
            None if (1..self.plan.tail_repairs).contains(&self.tail_repairs) => self.last_due,
            None => return None,
        };
        Some(since + self.repair_timer())
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        if self.timeout().is_some_and(|at| at <= now) {
            self.units = 0;
            self.queue_repair(now);
        }
    }

    fn queue_repair(&mut self, now: Time) {
        self.due = (self.due + 1).min(DUE_REPAIRS_MAX);
        self.tail_repairs = self.tail_repairs.saturating_add(1);
        self.uncovered_since = None;
        self.last_due = now;
    }

    /// How many symbols the repair that is due would cover: none are needed when the receiver has all. None: no repair
    /// is due.
    pub(crate) fn repair_due(&mut self) -> Option<u64> {
        if self.due == 0 {
            return None;
        }
        let next = self.next_number();
        self.floor = self.floor.max(next.saturating_sub(self.window)).max(self.first);
        while self.floor < next && self.symbols[slot(self.floor)].fate == Fate::Known {
            self.floor += 1;
        }
        if self.floor == next {
            self.due = 0;
            self.uncovered_since = None;
            self.tail_repairs = self.plan.tail_repairs;
            return None;
        }
        Some(next - self.floor)
    }

    /// The bytes of a repair of the last `count` symbols.
    pub(crate) fn repair_payload_bytes(&self, count: u64) -> usize {
        self.encoder.repair_bytes(count as usize)
    }

    /// A repair cannot be sent.
    pub(crate) fn drop_repair(&mut self) {
        self.due = self.due.saturating_sub(1);
    }

    /// Writes the payload of the repair that is due, with the index that [`next_index`](Self::next_index) says.
    pub(crate) fn write_repair(&mut self, count: u64, out: &mut [u8]) {
        let index = self.next_index;
        self.next_index = (index + 1) % REPAIR_INDICES as u8;
        self.encoder.repair(count as usize, index, out);
    }

    pub(crate) const fn next_index(&self) -> u8 {
        self.next_index
    }

    /// A repair of the last `count` symbols leaves in `packet`.
    pub(crate) fn on_repair(&mut self, packet: u64, packet_bytes: usize, count: u64) {
        self.due = self.due.saturating_sub(1);
        self.repair_packet_bytes = mean(self.repair_packet_bytes, packet_bytes);
        if self.repairs.len() == FOLLOWED_REPAIRS_MAX {
            self.repairs.pop_front();
        }
        let next = self.next_number();
        self.repairs.push_back(SentRepair { packet, first: next - count, last: next - 1, has_come: false });
    }

    /// A packet was acknowledged.
    pub(crate) fn on_acked(&mut self, packet: u64) {
        self.largest_acked = self.largest_acked.max(packet);
        if let Some(number) = self.symbol_of(packet) {
            self.know(number);
        } else if let Ok(index) = self.repairs.binary_search_by_key(&packet, |repair| repair.packet) {
            self.repairs[index].has_come = true;
        }
    }

    /// The receiver has a symbol by repairs; returns its packet, when that is news.
    pub(crate) fn on_recovered(&mut self, number: u64) -> Option<u64> {
        let is_followed = (self.first..self.next_number()).contains(&number);
        if !is_followed || self.symbols[slot(number)].fate == Fate::Known {
            return None;
        }
        self.know(number);
        Some(self.symbols[slot(number)].packet)
    }

    fn know(&mut self, number: u64) {
        let symbol = &mut self.symbols[slot(number)];
        self.held -= usize::from(symbol.fate == Fate::Held);
        symbol.fate = Fate::Known;
        self.abandoned &= !(1 << slot(number));
    }

    /// A packet was lost.
    pub(crate) fn on_lost(&mut self, now: Time, packet: u64) -> Verdict {
        self.last_loss = now;
        if let Some(number) = self.symbol_of(packet) {
            let symbol = &mut self.symbols[slot(number)];
            match symbol.fate {
                Fate::InFlight => {
                    symbol.fate = Fate::Held;
                    self.held += 1;
                    return Verdict::Hold;
                }
                Fate::Known | Fate::Held => return Verdict::Hold,
                Fate::Abandoned => return Verdict::Resend,
            }
        }
        if let Ok(index) = self.repairs.binary_search_by_key(&packet, |repair| repair.packet) {
            self.repairs.remove(index);
        }
        Verdict::Resend
    }

    /// Whether the receiver has the symbol of a packet, though the packet was not acknowledged.
    pub(crate) fn is_known(&self, packet: u64) -> bool {
        self.symbol_of(packet).is_some_and(|number| self.symbols[slot(number)].fate == Fate::Known)
    }

    /// Gives up what repairs under way cannot bring back. To be called when acknowledgements and losses have been told.
    pub(crate) fn review(&mut self) {
        while let Some(front) = self.repairs.front()
            && (front.last + self.window < self.next_number() || front.last < self.first)
        {
            self.repairs.pop_front();
        }
        let Some(oldest) = self.oldest_held() else { return };
        let under_way =
            self.repairs.iter().filter(|repair| repair.covers(oldest) && !repair.has_come).count();
        let come = self.repairs.iter().filter(|repair| repair.covers(oldest) && repair.has_come).count();
        let missing = (oldest..self.next_number()).filter(|&number| self.is_missing(number)).count();
        // What has come was not enough, or nothing would be missing.
        if under_way < missing.saturating_sub(come).max(1) {
            self.give_up();
        }
    }

    fn is_missing(&self, number: u64) -> bool {
        let symbol = &self.symbols[slot(number)];
        match symbol.fate {
            Fate::Held => true,
            Fate::InFlight => symbol.packet < self.largest_acked,
            Fate::Known | Fate::Abandoned => false,
        }
    }

    fn oldest_held(&self) -> Option<u64> {
        if self.held == 0 {
            return None;
        }
        (self.first..self.next_number()).find(|&number| self.symbols[slot(number)].fate == Fate::Held)
    }

    /// What no new repair covers is sent again.
    fn give_up_old(&mut self) {
        if self.oldest_held().is_some_and(|oldest| oldest + GIVE_UP_SYMBOLS <= self.next_number()) {
            self.give_up();
        }
    }

    /// New repairs do not cover what is given up: it would be missing in each of them.
    fn give_up(&mut self) {
        for number in self.first..self.next_number() {
            let symbol = &mut self.symbols[slot(number)];
            if symbol.fate == Fate::Held {
                symbol.fate = Fate::Abandoned;
                self.held -= 1;
                self.abandoned |= 1 << slot(number);
                self.floor = self.floor.max(number + 1);
            }
        }
    }

    /// The next lost packet whose content must be sent again, the oldest first.
    pub(crate) fn poll_abandoned(&mut self) -> Option<u64> {
        if self.abandoned == 0 {
            return None;
        }
        let start = slot(self.next_number()) as u32;
        let offset = self.abandoned.rotate_right(start).trailing_zeros();
        let found = (start + offset) as usize % FOLLOWED_SYMBOLS;
        self.abandoned &= !(1 << found);
        Some(self.symbols[found].packet)
    }

    /// When the oldest packet was sent that may have to be sent again.
    pub(crate) fn oldest_held_sent(&self) -> Option<Time> {
        self.oldest_held().map(|number| self.symbols[slot(number)].sent)
    }

    /// The receiver's report. Returns the one before.
    pub(crate) fn on_report(&mut self, now: Time, report: &LossReport) -> LossReport {
        let before = self.estimator.on_report(report);
        if report.lost > before.lost {
            self.last_loss = now;
        }
        before
    }

    fn symbol_of(&self, packet: u64) -> Option<u64> {
        let (mut low, mut high) = (self.first, self.next_number());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.symbols[slot(middle)].packet.cmp(&packet) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}

const fn slot(number: u64) -> usize {
    number as usize % FOLLOWED_SYMBOLS
}

fn mean(before: u64, bytes: usize) -> u64 {
    if before == 0 { bytes as u64 } else { (before * 15 + bytes as u64).div_ceil(16) }
}

#[cfg(test)]
mod tests;
