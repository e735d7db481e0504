//! A shard among its siblings: messages over lanes, in and out.

use quantum::Now;
use statesync::SubscriberKey;
use wal::AlignedBuffer;

use super::Shard;
use crate::lanes::{LaneBody, LaneMessage};
use crate::log::OpLog;
use crate::probe::{Probe, Stage};
use crate::sink::connection;

impl<B: AlignedBuffer, P: Probe> Shard<B, P> {
    /// A message of a sibling. What follows from a batch of them is carried on by
    /// [`finish_lane_messages`](Self::finish_lane_messages), once behind the batch.
    pub fn handle_lane_message(&mut self, now: Now, from: u32, message: LaneMessage) {
        let Self { endpoint, sync, lanes, log, probe, .. } = self;
        let (key, body) = lanes.receive(message);
        let remote = SubscriberKey { origin: from, connection: key };
        match body {
            LaneBody::Open(session) => lanes.handle_open(sync, remote, *session),
            LaneBody::FromClient(payload) => {
                probe.enter(Stage::Statesync);
                let mut log = OpLog { log, probe: &mut *probe };
                sync.handle_message(now.mono, remote, payload.channel, payload.bytes(), &mut log);
                probe.leave();
            }
            LaneBody::Credit(bytes) => lanes.handle_credit(sync, remote, bytes),
            LaneBody::Close => lanes.handle_close(now.mono, sync, remote),
            LaneBody::ToClient(payload) => lanes.deliver(endpoint, connection(remote), from, &payload),
            LaneBody::End(code, reason) => {
                endpoint.close(now.mono, connection(remote), code as u16, reason);
            }
        }
    }

    /// The end of a batch of [`handle_lane_message`](Self::handle_lane_message).
    pub fn finish_lane_messages(&mut self, now: Now) {
        self.settle(now);
    }

    /// The next message for a sibling. To be polled only when there is room for it in the lane; what waits here when
    /// there is none is bounded, and holds back whom it comes from.
    pub fn poll_lane_message(&mut self, now: Now, to: u32) -> Option<LaneMessage> {
        let polled = self.lanes.poll(to);
        let mut unblocked = false;
        while let Some(key) = self.lanes.poll_unblocked(to) {
            self.sync.handle_writable(key);
            // Its messages take up room at once: the next one may have to wait on.
            unblocked |= self.carry(now);
        }
        let (message, credit) = match polled {
            None if unblocked => self.lanes.poll(to)?,
            polled => polled?,
        };
        if let Some((key, channel, bytes)) = credit {
            self.endpoint.consume(key, channel, bytes);
        }
        Some(message)
    }

    /// Whether [`poll_lane_message`](Self::poll_lane_message) has something for a sibling.
    #[must_use]
    pub fn has_lane_message(&self, to: u32) -> bool {
        self.lanes.is_waiting(to)
    }
}
