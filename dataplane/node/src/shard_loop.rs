//! The loop of one core: drives a shard with the packet ring, the log files and the agent's commands.

use std::sync::Arc;
use std::time::Duration;

use quantum::Now;
use rings::spsc::{Consumer, Producer};
use rt::{Clock, LogBuffer, PacketRing, Sent, unix_ms};
use shard::{Command, Figure, IdlePolicy, Report, Shard};
use wire::{Span, Time};

use crate::error::NodeError;
use crate::log_driver::LogDriver;

/// How often a shard reports its figures.
const STATUS_INTERVAL: Span = Span::from_ms(1_000);
/// How long a shard sleeps at the most while a segment is being made ready.
const SEGMENT_POLL: Duration = Duration::from_millis(1);
/// Datagrams sent in one turn at the most, so that what comes in is never kept waiting long.
const SENDS_PER_TURN: usize = 256;

/// A shard's ends of the rings to and from its agent.
pub(crate) struct AgentLink {
    pub(crate) commands: Consumer<Command>,
    pub(crate) reports: Producer<Report>,
    /// Tells the agent that a report is there.
    pub(crate) notify: Arc<dyn Fn() + Send + Sync>,
}

/// All that a loop works with.
pub(crate) struct ShardLoop {
    pub(crate) shard: Shard<LogBuffer>,
    pub(crate) ring: PacketRing,
    pub(crate) log: LogDriver,
    pub(crate) link: AgentLink,
    pub(crate) idle_policy: IdlePolicy,
    pub(crate) clock: Clock,
}

impl ShardLoop {
    /// Serves until the shard has drained.
    pub(crate) async fn run(mut self) -> Result<(), NodeError> {
        self.make_incarnation_durable().await?;
        let mut last_work = self.clock.now();
        let mut status_due = Time::ZERO;
        loop {
            let now = self.now();
            let mut worked = self.take_in(now)?;
            let now = self.now();
            worked |= self.shard.run_background();
            if now.mono >= status_due {
                status_due = now.mono + STATUS_INTERVAL;
                self.report(Report::Status(self.figures()));
            }
            worked |= self.put_out(now).await?;
            if self.shard.is_drained() {
                return Ok(());
            }
            if worked {
                last_work = now.mono;
            } else if now.mono.since(last_work) >= self.idle_policy.spin() {
                self.sleep(now.mono, status_due)?;
            }
            rt::yield_now().await;
        }
    }

    /// Nobody may be told of this run of the log before the disk knows of it: after a crash another run would
    /// have the same number.
    async fn make_incarnation_durable(&mut self) -> Result<(), NodeError> {
        while !self.shard.is_durable() {
            let now = self.now();
            self.put_out(now).await?;
            self.ring.wait(Some(SEGMENT_POLL), || true)?;
            // Who comes this early comes again.
            self.ring.poll(|_, _| {})?;
            if let Some((at, buffer)) = self.log.poll_durable(&mut self.ring)? {
                self.shard.handle_durable(now, at, Some(buffer));
            }
        }
        Ok(())
    }

    /// Everything that has come: datagrams, finished writes, commands, timers.
    fn take_in(&mut self, now: Now) -> Result<bool, NodeError> {
        let shard = &mut self.shard;
        let polled = self.ring.poll(|from, datagram| shard.handle_datagram(now, from, datagram))?;
        let mut worked = polled.datagrams > 0 || polled.more;
        if let Some((at, buffer)) = self.log.poll_durable(&mut self.ring)? {
            self.shard.handle_durable(now, at, Some(buffer));
            worked = true;
        }
        while let Some(command) = self.link.commands.pop() {
            if let Command::Settings(settings) = &command {
                self.idle_policy = settings.idle_policy;
            }
            self.shard.handle_command(now, command);
            worked = true;
        }
        if self.shard.poll_timeout().is_some_and(|due| due <= now.mono) {
            self.shard.handle_timeout(now);
            worked = true;
        }
        Ok(worked)
    }

    /// Everything that goes out: writes, datagrams, reports.
    async fn put_out(&mut self, now: Now) -> Result<bool, NodeError> {
        let mut worked = false;
        if let Some(segment) = self.shard.poll_segment_wanted() {
            self.log.prepare(segment)?;
        }
        if let Some(write) = self.shard.poll_write() {
            self.log.write(write);
            worked = true;
        }
        self.log.advance(&mut self.ring).await?;
        for _ in 0..SENDS_PER_TURN {
            let shard = &mut self.shard;
            let sent =
                self.ring.send(|buffer| shard.poll_transmit(now, buffer).map(|(to, bytes)| (bytes, to)))?;
            match sent {
                Sent::Queued => worked = true,
                Sent::Nothing | Sent::Full => break,
            }
        }
        self.ring.flush()?;
        while let Some(report) = self.shard.poll_report() {
            if matches!(report, Report::Drained) {
                self.report(Report::Status(self.figures()));
            }
            self.report(report);
        }
        Ok(worked)
    }

    /// Sleeps until something comes or a timer is due.
    fn sleep(&mut self, now: Time, status_due: Time) -> Result<(), NodeError> {
        let due = self.shard.poll_timeout().map_or(status_due, |timer| timer.min(status_due));
        let mut until = due.since(now).as_duration();
        if self.log.is_preparing() {
            // The doorbell rings a moment before the segment is ready.
            until = until.min(SEGMENT_POLL);
        }
        let commands = &self.link.commands;
        self.ring.wait(Some(until), || commands.is_empty())?;
        Ok(())
    }

    fn figures(&self) -> Vec<Figure> {
        let mut figures = self.shard.status();
        let ring = self.ring.counters();
        figures.extend([
            Figure::counter("ring_bytes_in", ring.bytes_in),
            Figure::counter("ring_bytes_out", ring.bytes_out),
            Figure::counter("ring_no_buffer", ring.receive_no_buffer),
            Figure::counter("ring_rearmed", ring.receive_rearmed),
            Figure::counter("ring_truncated", ring.truncated),
            Figure::counter("ring_send_errors", ring.send_errors),
            Figure::counter("ring_send_slots_exhausted", ring.send_slots_exhausted),
            Figure::counter("ring_waits", ring.waits),
            Figure::counter("ring_syscalls", ring.syscalls),
        ]);
        figures
    }

    /// Figures that find no room are followed by newer ones; everything else is waited for by the agent, and
    /// its ring is larger than all that can be under way.
    fn report(&mut self, report: Report) {
        if self.link.reports.try_push(report).is_ok() {
            (self.link.notify)();
        }
    }

    fn now(&self) -> Now {
        Now { mono: self.clock.now(), unix_ms: unix_ms() }
    }
}
