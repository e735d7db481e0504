//! The machine under a shard: its disk, its timers and its datagrams.

use std::collections::VecDeque;

use shard::{Report, Shard};
use wal::memory::HeapBuffer;
use wal::{AlignedBuffer, BLOCK_BYTES, Write};
use wire::{Span, Time};

use super::mutation::Mutation;
use super::plan::Point;
use super::storage::StorageThread;
use super::{BUFFER_BYTES, Task, World};
use crate::disk::DiskError;
use crate::invariants::Check;

/// A drain looks after itself so often: what ends its stages is no timer.
const DRAIN_TICK: Span = Span::from_ms(1);
/// When there is no room for a segment, it is asked for again after so long.
const FULL_DISK_SPAN: Span = Span::from_ms(20);

/// A shard and its driver.
pub(super) struct Host {
    pub(super) shard: Shard<HeapBuffer>,
    /// The disk knows of this run: clients are served.
    pub(super) is_open: bool,
    pub(super) in_flight: Option<InFlight>,
    waiting: Option<Write<HeapBuffer>>,
    wanted: VecDeque<u32>,
    preparing: Option<(u32, Time)>,
    prepared: Vec<u32>,
    removing: Option<(u32, Time)>,
    pub(super) storage: StorageThread,
    pub(super) is_touched: bool,
    wake: Option<Time>,
}

pub(super) struct InFlight {
    write: Write<HeapBuffer>,
    ends: Time,
    result: Result<(), DiskError>,
}

impl Host {
    pub(super) const fn new(shard: Shard<HeapBuffer>, storage: StorageThread) -> Self {
        Self {
            shard,
            is_open: false,
            in_flight: None,
            waiting: None,
            wanted: VecDeque::new(),
            preparing: None,
            prepared: Vec::new(),
            removing: None,
            storage,
            is_touched: true,
            wake: None,
        }
    }

    pub(super) fn wake(&self) -> Option<Time> {
        let write = self.in_flight.as_ref().map(|flight| flight.ends);
        let files = [self.preparing, self.removing].into_iter().flatten().map(|(_, ends)| ends);
        files.chain([write, self.storage.wake(), self.wake].into_iter().flatten()).min()
    }
}

impl World {
    /// Disk, timers and datagrams of all shards.
    pub(super) fn flush_node(&mut self) -> Check {
        for number in 0..self.plan.shards {
            self.finish_io(number);
            self.work_on_jobs(number);
            let now = self.node_now();
            let Some(host) = self.node.shards.as_mut().map(|hosts| &mut hosts[number]) else { return Ok(()) };
            if host.wake.is_some_and(|at| at <= self.now) {
                host.is_touched = true;
                host.shard.handle_timeout(now);
            }
            if !std::mem::take(&mut host.is_touched) {
                continue;
            }
            self.fill_lanes(number);
            self.begin_jobs(number);
            self.begin_io(number);
            self.transmit(number);
            let Some(host) = self.node.shards.as_mut().map(|hosts| &mut hosts[number]) else { return Ok(()) };
            while let Some(report) = host.shard.poll_report() {
                if matches!(report, Report::Drained) {
                    host.is_open = false;
                }
            }
            let due = host.shard.poll_timeout();
            let least = if self.node.is_draining { self.now + DRAIN_TICK } else { self.now };
            host.wake = if host.shard.is_drained() { None } else { due.map(|at| at.max(least)) };
        }
        let hosts = self.node.shards.iter().flatten();
        if self.node.is_draining && hosts.into_iter().all(|host| host.shard.is_drained()) {
            self.take_down(StorageThread::finish);
            self.say_node(|| "has gone in peace".to_owned());
            self.crash_disks();
        }
        Ok(())
    }

    /// Writes and segments whose time has come.
    fn finish_io(&mut self, number: usize) {
        let now = self.node_now();
        let segment_bytes = self.plan.log.segment_bytes;
        let Some(host) = self.node.shards.as_mut().map(|hosts| &mut hosts[number]) else { return };
        if let Some((segment, _)) = host.preparing.take_if(|(_, ends)| *ends <= now.mono) {
            host.is_touched = true;
            if self.node.disks[number].prepare(segment, segment_bytes).is_ok() {
                host.prepared.push(segment);
                host.shard.handle_segment_ready(segment);
            } else {
                // Asked for again until there is room.
                host.preparing = Some((segment, now.mono + FULL_DISK_SPAN));
                host.shard.handle_disk_full(segment);
                let what = || format!("has no room for segment {segment}");
                self.trace.say(now.mono, &format!("disk {number}"), what);
            }
        }
        if let Some((segment, _)) = host.removing.take_if(|(_, ends)| *ends <= now.mono) {
            host.is_touched = true;
            self.node.disks[number].remove(segment);
            self.trace.say(now.mono, &format!("disk {number}"), || format!("has segment {segment} no more"));
            self.kill_at(Point::Removed);
        }
        let Some(host) = self.node.shards.as_mut().map(|hosts| &mut hosts[number]) else { return };
        let Some(flight) = host.in_flight.take_if(|flight| flight.ends <= now.mono) else { return };
        host.is_touched = true;
        let Write { at, buffer } = flight.write;
        if let Err(error) = flight.result {
            return self.kill(&format!("stops: a write of shard {number} failed: {error}"));
        }
        if self.mutation != Mutation::SyncLeftOut {
            wal::Storage::sync(&mut self.node.disks[number], at.segment)
                .expect("a disk that serves is not interrupted");
        }
        if self.kill_at(Point::Durable) {
            return;
        }
        let Some(host) = self.node.shards.as_mut().map(|hosts| &mut hosts[number]) else { return };
        host.shard.handle_durable(now, at, Some(buffer));
        host.is_open |= host.shard.is_durable() && !self.node.is_draining;
        self.trace.say(now.mono, &format!("disk {number}"), || {
            format!("has records {} to {}", at.first_lsn, at.last_lsn)
        });
    }

    /// Hands the disk what there is to write.
    fn begin_io(&mut self, number: usize) {
        let Some(host) = self.node.shards.as_mut().map(|hosts| &mut hosts[number]) else { return };
        while let Some(segment) = host.shard.poll_segment_wanted() {
            host.wanted.push_back(segment);
        }
        let disk = &mut self.node.disks[number];
        if host.preparing.is_none()
            && let Some(segment) = host.wanted.pop_front()
        {
            host.preparing = Some((segment, self.now + disk.prepare_latency()));
        }
        if host.removing.is_none()
            && let Some(segment) = host.shard.poll_segment_removed()
        {
            host.removing = Some((segment, self.now + disk.prepare_latency()));
            if self.kill_at(Point::Trimmed) {
                return;
            }
        }
        let Some(host) = self.node.shards.as_mut().map(|hosts| &mut hosts[number]) else { return };
        let disk = &mut self.node.disks[number];
        if host.waiting.is_none() {
            host.waiting = host.shard.poll_write(self.now);
        }
        let is_ready = |write: &mut Write<HeapBuffer>| host.prepared.contains(&write.at.segment);
        let Some(write) = host.waiting.take_if(is_ready) else { return };
        let at = write.at;
        let fate = disk.begin_write(at.segment, at.offset, &write.buffer.as_slice()[..at.bytes]);
        self.counts.log_writes += 1;
        self.digest.word(at.last_lsn);
        host.in_flight = Some(InFlight { write, ends: self.now + fate.latency, result: fate.result });
        self.trace.say(self.now, &format!("shard {number}"), || {
            let (first, last, bytes) = (at.first_lsn, at.last_lsn, at.bytes);
            format!("writes records {first} to {last} ({bytes} B) at {} of segment {}", at.offset, at.segment)
        });
        let is_met = |point: &mut Point| match point {
            Point::Write => true,
            Point::LargeWrite => at.bytes > BLOCK_BYTES,
            _ => false,
        };
        if let Some(point) = self.node.armed.take_if(is_met) {
            let after = Span::from_us(self.random.below(fate.latency.as_us()));
            self.agenda.add(self.now + after, Task::Kill { life: self.node.life, point });
        }
    }

    /// What a shard sends goes into the networks.
    fn transmit(&mut self, number: usize) {
        let now = self.node_now();
        let mut buffer = [0; BUFFER_BYTES];
        loop {
            let Some(host) = self.node.shards.as_mut().map(|hosts| &mut hosts[number]) else { return };
            let Some((to, length)) = host.shard.poll_transmit(now, &mut buffer) else { return };
            let datagram = self.datagram(&buffer[..length]);
            if let Some((link, mapping)) = super::link_at(to) {
                self.links[link].path.handle_down(now.mono, mapping, datagram);
            }
        }
    }
}
