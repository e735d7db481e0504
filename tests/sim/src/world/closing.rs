//! How connections, and worlds, end.

use netem::Direction;
use quantum::{CloseReason, Event};
use wire::{Code, Span, Time};

use super::World;
use super::agenda::Task;
use crate::draw::Draw;
use crate::invariants::{Check, Invariant, memory};
use crate::scenario::Ending;

/// With this code applications close.
const DONE: u16 = Code::Done as u16;
/// A client that has lost its connection begins the next after so long.
const RECONNECT_DELAY: Span = Span::from_ms(1);
/// What has ended is forgotten after its longest timeout and so much.
const LEFTOVER_SLACK: Span = Span::from_ms(60_000);

impl World {
    pub(super) fn end_attempt(&mut self, attempt: usize, ending: Ending) -> Check {
        self.attempts[attempt].endings_left -= 1;
        if self.attempts[attempt].is_over() {
            return Ok(());
        }
        let name = self.attempts[attempt].name();
        self.trace.say(self.now, &name, || format!("is to end: {}", ending.in_words()));
        match ending {
            Ending::ClientCloses => self.close_client(attempt),
            Ending::NodeCloses => self.close_node(attempt),
            Ending::ClientFinishes(patience) => self.finish_client(attempt, patience),
            Ending::NodeFinishes(patience) => self.finish_node(attempt, patience),
            Ending::ClientVanishes => {
                self.attempts[attempt].has_vanished = true;
                self.attempts[attempt].connection = None;
                self.attempts[attempt].wake = None;
                self.live.retain(|&live| live != attempt);
                self.begin_next(attempt);
            }
        }
        Ok(())
    }

    pub(super) fn close_client(&mut self, attempt: usize) {
        let now = self.client_time(self.attempts[attempt].client);
        self.attempts[attempt].is_touched = true;
        if !self.attempts[attempt].client_end.is_over() {
            self.attempts[attempt].client_end.closes(DONE);
        }
        if let Some(connection) = self.connection_of(attempt) {
            connection.close(now, DONE, "done");
        }
    }

    fn close_node(&mut self, attempt: usize) {
        let now = self.node.now(self.now).mono;
        let Some(key) = self.attempts[attempt].node_key else {
            // The node does not know it yet.
            return self.close_client(attempt);
        };
        if let Some(end) = self.attempts[attempt].node_end.as_mut().filter(|end| !end.is_over()) {
            end.closes(DONE);
        }
        self.node.is_touched = true;
        self.node.endpoint.close(now, key, DONE, "done");
    }

    fn finish_client(&mut self, attempt: usize, patience: Span) {
        let now = self.client_time(self.attempts[attempt].client);
        let this = &mut self.attempts[attempt];
        this.is_touched = true;
        this.client_end.finishes(DONE, self.now + patience);
        this.forget_waiting(Direction::Up);
        if let Some(connection) = self.connection_of(attempt) {
            connection.finish(now, DONE, "done", now + patience);
        }
    }

    fn finish_node(&mut self, attempt: usize, patience: Span) {
        let now = self.node.now(self.now).mono;
        let Some(key) = self.attempts[attempt].node_key else {
            // The node does not know it yet.
            return self.finish_client(attempt, patience);
        };
        if let Some(end) = self.attempts[attempt].node_end.as_mut().filter(|end| !end.is_over()) {
            end.finishes(DONE, self.now + patience);
        }
        self.attempts[attempt].forget_waiting(Direction::Down);
        self.node.is_touched = true;
        self.node.endpoint.finish(now, key, DONE, "done", now + patience);
    }

    /// Everything has been said and heard: one side ends all that is left.
    pub(super) fn close_all(&mut self) -> Check {
        if self.random.percent(50) {
            for attempt in self.live.clone() {
                self.close_client(attempt);
            }
        } else {
            self.trace.say(self.now, "node", || "is drained".to_owned());
            for attempt in &mut self.attempts {
                if let Some(end) = attempt.node_end.as_mut().filter(|end| !end.is_over()) {
                    end.closes(Code::Draining as u16);
                }
            }
            let now = self.node.now(self.now).mono;
            self.node.is_touched = true;
            self.node.endpoint.close_all(now, Code::Draining as u16, "the node goes away");
        }
        let longest = |config: &quantum::Config| config.idle_timeout.max(config.handshake_timeout);
        let longest = longest(&self.scenario.client_config).max(longest(&self.scenario.node_config));
        self.leftover_by = Some(self.now + longest.times(2) + LEFTOVER_SLACK);
        Ok(())
    }

    /// Whether nothing is left, as it must be in the end.
    pub(super) fn check_end(&mut self) -> Check {
        let Some(leftover_by) = self.leftover_by else {
            return Ok(());
        };
        let (clients, connections) = (self.live.len(), self.node.endpoint.connections_count());
        if clients == 0 && connections == 0 {
            self.is_over = true;
        }
        if self.now <= leftover_by || self.is_over {
            return Ok(());
        }
        let seen = format!("{clients} connections of clients and {connections} of the node never end");
        Err((Invariant::NothingLeft, seen))
    }

    pub(super) fn check_memory(&mut self) -> Check {
        for &attempt in &self.live {
            if let Some(connection) = &self.attempts[attempt].connection {
                memory::check_connection(connection, &self.scenario.client_config)?;
            }
        }
        for (connection, _) in self.node.endpoint.connections() {
            memory::check_connection(connection, &self.scenario.node_config)?;
        }
        memory::check_endpoint(&self.node.endpoint, &self.scenario.limits)
    }

    pub(super) fn on_client_event(&mut self, attempt: usize, event: Event) -> Check {
        let name = self.attempts[attempt].name();
        self.trace.say(self.now, &name, || in_words(&event));
        match event {
            Event::Connected => self.attempts[attempt].client_end.is_connected = true,
            Event::Writable => self.on_writable(attempt, Direction::Up),
            Event::Finishing => {}
            Event::Closed(reason) => self.on_client_closed(attempt, reason)?,
        }
        Ok(())
    }

    fn on_client_closed(&mut self, attempt: usize, reason: CloseReason) -> Check {
        let this = &mut self.attempts[attempt];
        let missing = this.undelivered(Direction::Up);
        this.client_end.check_finish(self.now, &reason, missing)?;
        // What the node said before it restarted may still arrive.
        let peer_code = this.node_end.as_ref().and_then(|end| end.closed_with).or(this.node_said);
        let configs = [&self.scenario.client_config, &self.scenario.node_config];
        this.client_end.on_closed(self.now, reason, peer_code, configs)?;
        self.begin_next(attempt);
        Ok(())
    }

    pub(super) fn on_node_event(&mut self, attempt: usize, event: Event) -> Check {
        let name = self.attempts[attempt].name();
        self.trace.say(self.now, "node", || format!("{}, {name}", in_words(&event)));
        match event {
            Event::Connected | Event::Finishing => {}
            Event::Writable => self.on_writable(attempt, Direction::Down),
            Event::Closed(reason) => {
                let this = &mut self.attempts[attempt];
                this.client_end.is_forgotten = true;
                let peer_code = this.client_end.closed_with;
                let configs = [&self.scenario.node_config, &self.scenario.client_config];
                let missing = this.undelivered(Direction::Down);
                if let Some(end) = &mut this.node_end {
                    end.check_finish(self.now, &reason, missing)?;
                    end.on_closed(self.now, reason, peer_code, configs)?;
                    this.node_said = end.closed_with;
                }
            }
        }
        Ok(())
    }

    /// The client goes on with its next connection.
    fn begin_next(&mut self, attempt: usize) {
        let client = self.attempts[attempt].client;
        let is_newest = self.hosts[client].attempts.last() == Some(&attempt);
        if is_newest && self.hosts[client].attempts.len() < self.scenario.clients[client].attempts.len() {
            self.agenda.add(self.now + RECONNECT_DELAY, Task::Connect { client });
        }
    }

    /// When the world must have settled at the latest: every connection may have to wait for the one before to time out.
    pub(super) fn settled_by(&self) -> Time {
        let attempts =
            self.scenario.clients.iter().map(|client| client.attempts.len() as u64).max().unwrap_or(1);
        let (client, node) = (&self.scenario.client_config, &self.scenario.node_config);
        let ending = client.handshake_timeout.max(client.idle_timeout.max(node.idle_timeout));
        let bytes = self.attempts.iter().map(super::attempt::Attempt::sent_bytes).sum();
        let flows =
            self.scenario.clients.iter().flat_map(|client| &client.attempts).flat_map(|plan| &plan.flows);
        let saying = flows.map(|flow| flow.start + flow.interval.times(u64::from(flow.ticks))).max();
        let one = self.scenario.progress_bound(bytes) + ending + saying.unwrap_or(Span::ZERO);
        self.scenario.heal_at + one.times(attempts)
    }
}

fn in_words(event: &Event) -> String {
    match event {
        Event::Connected => "is connected".to_owned(),
        Event::Writable => "is writable again".to_owned(),
        Event::Finishing => "hears that no more will come".to_owned(),
        Event::Closed(reason) => format!("is over: {reason}"),
    }
}
