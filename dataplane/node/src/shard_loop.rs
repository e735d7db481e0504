//! The loop of one core: drives a shard with the packet ring, the log files and the agent's commands.

use std::sync::Arc;
use std::time::Duration;

use quantum::Now;
use rings::spsc::{Consumer, Producer};
use rt::{HiccupCause, HiccupMeter, Incoming, LogBuffer, PacketRing, Train};
use shard::{Command, Figure, IdlePolicy, Probe, Report, Shard, Stage};
use wire::{Span, Time};

use crate::config::CoreConfig;
use crate::error::NodeError;
use crate::log_driver::{Durable, LogDriver, SegmentNews};
use crate::loop_clock::LoopClock;
use crate::siblings::Siblings;
use crate::stage_probe::StageProbe;
use crate::stalls::{StallReport, StallReports};
use crate::storage::{JobKind, StorageLink};
use crate::timings::{ShardSnapshot, StepTimes, Timings};
use crate::turn_meter::Step;

/// How often a shard reports its figures.
const STATUS_INTERVAL: Span = Span::from_ms(1_000);
/// How long a shard that starts sleeps at the most before it looks again whether its log is ready.
const START_POLL: Duration = Duration::from_millis(100);
/// The agent's commands that one turn heeds at the most: what is left waits for the next.
const COMMANDS_PER_TURN: usize = 8;
/// Answers of the storage thread that it heeds at the most.
const ANSWERS_PER_TURN: usize = 8;

/// What a loop tells the agent.
pub(crate) enum LoopReport {
    /// What its shard says.
    Shard(Report),
    /// What it has done and holds, and where its time went.
    Status(Box<ShardSnapshot>),
    /// What held it up.
    Stall(Box<StallReport>),
    /// Why its store takes no writes from now on; `None`: it takes them again.
    Store(Option<String>),
}

/// A shard's ends of the rings to and from its agent.
pub(crate) struct AgentLink {
    pub(crate) commands: Consumer<Command>,
    pub(crate) reports: Producer<LoopReport>,
    /// Tells the agent that a report is there.
    pub(crate) notify: Arc<dyn Fn() + Send + Sync>,
}

/// All that a loop works with.
pub(crate) struct ShardLoop {
    shard: Shard<LogBuffer, StageProbe>,
    pub(crate) ring: PacketRing,
    log: LogDriver,
    storage: StorageLink,
    link: AgentLink,
    siblings: Siblings,
    idle_policy: IdlePolicy,
    clock: LoopClock,
    hiccups: HiccupMeter,
    stalls: StallReports,
    core: CoreConfig,
    status_due: Time,
    /// Times the core was offered to others while a log write was in flight: each is a system call.
    core_yields: u64,
}

impl ShardLoop {
    /// On the core where it will run.
    pub(crate) fn new(
        shard: Shard<LogBuffer, StageProbe>,
        ring: PacketRing,
        log: LogDriver,
        storage: StorageLink,
        link: AgentLink,
        idle_policy: IdlePolicy,
        core: CoreConfig,
    ) -> Self {
        Self {
            shard,
            ring,
            log,
            storage,
            link,
            siblings: Siblings::default(),
            idle_policy,
            clock: LoopClock::new(),
            hiccups: HiccupMeter::new(),
            stalls: StallReports::default(),
            core,
            status_due: Time::ZERO,
            core_yields: 0,
        }
    }

    /// The lanes to the other shards and from them; before it serves.
    pub(crate) fn set_siblings(&mut self, siblings: Siblings) {
        self.siblings = siblings;
    }

    /// Serves until the shard has drained.
    pub(crate) async fn run(mut self) -> Result<(), NodeError> {
        self.make_incarnation_durable()?;
        self.hiccups.reset();
        let mut last_work = self.clock.now().mono;
        loop {
            let mut now = self.clock.now();
            let mut worked = self.take_in(now)?;
            if worked {
                now = self.clock.now();
            }
            let reported = self.report_status(now.mono);
            worked |= self.put_out(now)?;
            if self.shard.is_drained() {
                return Ok(());
            }
            if worked {
                last_work = now.mono;
            } else if now.mono.since(last_work) >= self.idle_policy.spin() {
                self.sleep(now.mono)?;
            }
            rt::yield_now().await;
            self.shard.probe().turn(worked);
            self.end_turn(now.mono, worked || reported);
        }
    }

    /// Nobody may be told of this run of the log before the disk knows of it: after a crash another run would
    /// have the same number.
    fn make_incarnation_durable(&mut self) -> Result<(), NodeError> {
        while !self.shard.is_durable() {
            let now = self.clock.now();
            self.put_out(now)?;
            if let Some(segment) = self.log.stuck_segment() {
                return Err(NodeError::DiskFull { segment });
            }
            let log = &self.log;
            self.ring.wait(Some(START_POLL), || !log.has_news())?;
            // Who comes this early comes again.
            self.ring.poll(|_, _| {})?;
            self.take_durable(now)?;
        }
        Ok(())
    }

    /// A step of the turn has ended, and has done something.
    fn ended(&mut self, step: Step) {
        self.shard.probe().turns().step(step);
    }

    /// Looks at how long the turn took.
    fn end_turn(&mut self, now: Time, worked: bool) {
        let turns = self.shard.probe().turns();
        let counts = turns.now();
        let stall = turns.end_turn(counts);
        let hiccup = self.hiccups.turn_at(counts, worked);
        // What was taken from the thread is nobody's fault here; the hiccup is counted.
        if let Some(stall) = stall
            && hiccup.is_none_or(|hiccup| hiccup.cause == HiccupCause::OverBudget)
        {
            turns.count(&stall);
            if let Some(report) = self.stalls.report(now, stall) {
                self.report(LoopReport::Stall(Box::new(report)));
            }
        }
    }

    /// Everything that has come: datagrams, finished writes, commands, timers.
    fn take_in(&mut self, now: Now) -> Result<bool, NodeError> {
        self.core_yields += u64::from(self.ring.log_write_in_flight());
        let shard = &mut self.shard;
        shard.probe().enter(Stage::Receive);
        let polled = self.ring.poll_ahead(|incoming| match incoming {
            Incoming::Upcoming(datagram) => shard.handle_upcoming(datagram),
            Incoming::Datagram(arrival, datagram) => {
                shard.handle_datagram(now, arrival.from, arrival.ecn, datagram);
            }
        })?;
        shard.probe().leave_if(polled.datagrams > 0);
        let mut worked = polled.datagrams > 0 || polled.more;
        if worked {
            self.ended(Step::Receive);
        }
        if self.take_durable(now)? {
            self.ended(Step::Durable);
            worked = true;
        }
        worked |= self.take_answers(now);
        if self.siblings.take_in(now, &mut self.shard) {
            self.ended(Step::Lanes);
            worked = true;
        }
        for _ in 0..COMMANDS_PER_TURN {
            let Some(command) = self.link.commands.pop() else { break };
            if let Command::Settings(settings) = &command {
                self.idle_policy = settings.idle_policy;
            }
            self.shard.handle_command(now, command);
            self.ended(Step::Commands);
            worked = true;
        }
        if self.shard.poll_timeout().is_some_and(|due| due <= now.mono) {
            self.shard.handle_timeout(now);
            self.ended(Step::Timers);
            worked = true;
        }
        Ok(worked)
    }

    /// What the storage thread has done.
    fn take_answers(&mut self, now: Now) -> bool {
        let mut worked = false;
        for _ in 0..ANSWERS_PER_TURN {
            let Some((id, done)) = self.storage.poll_done() else { break };
            self.shard.handle_job_done(now, id, done);
            worked = true;
        }
        if worked {
            self.ended(Step::Jobs);
        }
        if let Some(failure) = self.storage.poll_turn() {
            self.report(LoopReport::Store(failure));
        }
        worked
    }

    /// Hands the storage thread its jobs.
    fn give_jobs(&mut self, now: Now) -> bool {
        let mut worked = false;
        while self.storage.has_room()
            && let Some((id, job)) = self.shard.poll_job(now)
        {
            self.storage.begin(id, job);
            worked = true;
        }
        if worked {
            self.ended(Step::Jobs);
        }
        worked
    }

    /// A batch that has become durable, if one has.
    fn take_durable(&mut self, now: Now) -> Result<bool, NodeError> {
        let Some(Durable { at, buffer, began }) = self.log.poll_durable(&mut self.ring)? else {
            return Ok(false);
        };
        if let Some(began) = began {
            self.shard.probe().record_since(Stage::Fsync, began);
        }
        self.shard.handle_durable(now, at, Some(buffer));
        Ok(true)
    }

    /// Everything that goes out: writes, datagrams, reports.
    fn put_out(&mut self, now: Now) -> Result<bool, NodeError> {
        // First: the sibling works on it meanwhile.
        let told_siblings = self.siblings.put_out(now, &mut self.shard);
        if told_siblings {
            self.ended(Step::Lanes);
        }
        let mut worked = false;
        if let Some(segment) = self.shard.poll_segment_wanted() {
            self.log.prepare(segment);
        }
        while let Some(segment) = self.shard.poll_segment_removed() {
            self.log.remove(segment);
        }
        while let Some(news) = self.log.poll_segment()? {
            match news {
                SegmentNews::Ready(segment) => self.shard.handle_segment_ready(segment),
                SegmentNews::DiskFull(segment) => self.shard.handle_disk_full(segment),
            }
        }
        if let Some(write) = self.shard.poll_write(now.mono) {
            self.log.write(write);
            worked = true;
        }
        let began = self.shard.probe().now();
        let began_write = self.log.advance(&mut self.ring, began)?;
        if worked || began_write {
            self.ended(Step::Log);
        }
        self.shard.probe().enter(Stage::Send);
        let mut datagrams = 0;
        let budget = self.core.datagrams_out_per_turn_max;
        let shard = &mut self.shard;
        let train_datagrams_max = self.ring.train_datagrams_max();
        self.ring.send_trains(|buffer| {
            if datagrams >= budget {
                return None;
            }
            let (to, train) = shard.poll_transmit_train(now, buffer, train_datagrams_max)?;
            datagrams += train.datagrams;
            let (bytes, segment_bytes) = (train.bytes, train.segment_bytes);
            Some(Train { to, bytes, segment_bytes, ecn: train.ecn })
        })?;
        worked |= datagrams > 0;
        self.shard.probe().leave_if(datagrams > 0);
        self.shard.probe().enter(Stage::Commit);
        self.ring.flush()?;
        self.shard.probe().leave_if(began_write);
        if datagrams > 0 {
            self.ended(Step::Send);
        }
        worked |= self.give_jobs(now);
        while let Some(report) = self.shard.poll_report() {
            if matches!(report, Report::Drained) {
                self.tell_status();
            }
            self.report(LoopReport::Shard(report));
        }
        Ok(worked || told_siblings)
    }

    /// Sleeps until something comes or a timer is due.
    fn sleep(&mut self, now: Time) -> Result<(), NodeError> {
        let due = self.shard.poll_timeout().map_or(self.status_due, |timer| timer.min(self.status_due));
        let until = due.since(now).as_duration();
        let Self { ring, link, log, storage, siblings, shard, .. } = self;
        let still_idle =
            || link.commands.is_empty() && !log.has_news() && storage.is_quiet() && siblings.is_idle(shard);
        ring.wait(Some(until), still_idle)?;
        self.hiccups.resume();
        self.shard.probe().turns().resume();
        Ok(())
    }

    /// Tells the agent how the shard is, when that is due.
    fn report_status(&mut self, now: Time) -> bool {
        let is_due = now >= self.status_due;
        if is_due {
            self.status_due = now + STATUS_INTERVAL;
            self.tell_status();
            self.ended(Step::Status);
        }
        is_due
    }

    fn tell_status(&mut self) {
        let figures = self.figures();
        let probe = self.shard.probe();
        let timings = Timings {
            sample_turns: probe.sample_turns(),
            steps: probe
                .turns()
                .steps()
                .map(|(step, times, stalls)| StepTimes { step, times: times.clone(), stalls })
                .collect(),
            stages: Stage::ALL.into_iter().zip(probe.histograms().iter().cloned()).collect(),
            jobs: JobKind::ALL.into_iter().zip(self.storage.stats().jobs.iter().cloned()).collect(),
            stolen: self.hiccups.stolen().clone(),
            over_budget: self.hiccups.over_budget().clone(),
        };
        self.report(LoopReport::Status(Box::new(ShardSnapshot {
            figures,
            timings,
            features: self.ring.features(),
        })));
    }

    fn figures(&self) -> Vec<Figure> {
        let mut figures = self.shard.status();
        figures.extend(self.ring.counters().described().map(Figure::from));
        let yields = Figure::counter("core_yields", self.core_yields);
        figures.push(yields.help("Times the core was offered to others while a log write was in flight."));
        figures.extend(self.storage.stats().figures());
        figures.extend(rt::thread_allocations().map(|count| Figure::counter("allocations", count)));
        figures
    }

    /// Figures that find no room are followed by newer ones; everything else is waited for by the agent, and
    /// its ring is larger than all that can be under way.
    fn report(&mut self, report: LoopReport) {
        if self.link.reports.try_push(report).is_ok() {
            (self.link.notify)();
        }
    }
}

#[cfg(test)]
mod tests;
