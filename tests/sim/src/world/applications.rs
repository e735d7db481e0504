//! What the applications on both ends say and take.

use netem::Direction;
use quantum::{MessageId, SendError, SendOptions};
use wire::Time;
use wire::channel::{Channel, ChannelKind};

use super::World;
use super::agenda::Task;
use crate::content::Place;
use crate::draw::Draw;
use crate::invariants::Check;
use crate::invariants::delivery::Waiting;
use crate::scenario::{Appetite, Flow};
use crate::trace::channel_name;

impl World {
    /// A flow's next messages.
    pub(super) fn say(&mut self, attempt: usize, flow: usize, tick: u32) -> Check {
        let flow_plan = self.attempts[attempt].plan(&self.scenario).flows[flow].clone();
        let Flow { direction, channel, .. } = flow_plan;
        if direction == Direction::Down && self.attempts[attempt].is_torn {
            // A node that has restarted knows of nobody whom it owes anything.
            self.attempts[attempt].flows_left -= 1;
            return Ok(());
        }
        for _ in 0..flow_plan.burst {
            let bytes = self.random.between(flow_plan.bytes_min as u64, flow_plan.bytes_max as u64) as u32;
            let key =
                if channel.kind() == ChannelKind::LatestWins { self.random.below(flow_plan.keys) } else { 0 };
            let message = Waiting { bytes, key };
            let stream = self.attempts[attempt].stream(direction, channel);
            // Behind those that wait, or the order of the channel would be another.
            if !stream.waiting.is_empty() {
                stream.waiting.push_back(message);
                continue;
            }
            let options = SendOptions { deadline: self.deadline(attempt, &flow_plan), key };
            match self.send(attempt, direction, channel, message, options) {
                Ok(id) if self.random.percent(flow_plan.cancelled) => {
                    self.cancel(attempt, direction, channel, id);
                }
                Ok(_) => {}
                Err(SendError::Full) if channel.is_reliable() => {
                    self.attempts[attempt].stream(direction, channel).waiting.push_back(message);
                }
                Err(_) => {}
            }
        }
        self.attempts[attempt].said_at = self.now;
        if tick + 1 < flow_plan.ticks && !self.attempts[attempt].is_over() {
            self.agenda.add(self.now + flow_plan.interval, Task::Say { attempt, flow, tick: tick + 1 });
        } else {
            self.attempts[attempt].flows_left -= 1;
        }
        Ok(())
    }

    /// A flow's deadline, on the sender's clock.
    fn deadline(&self, attempt: usize, flow: &Flow) -> Option<Time> {
        let now = match flow.direction {
            Direction::Up => self.client_time(self.attempts[attempt].client),
            Direction::Down => self.node.now(self.now).mono,
        };
        flow.deadline.map(|deadline| now + deadline)
    }

    /// Gives a connection a message.
    fn send(
        &mut self,
        attempt: usize,
        direction: Direction,
        channel: Channel,
        message: Waiting,
        options: SendOptions,
    ) -> Result<MessageId, SendError> {
        let index = self.attempts[attempt].stream(direction, channel).next_index();
        let place = Place { seed: self.scenario.seed, attempt, direction, channel, index };
        let payload = place.message(message.bytes as usize).into();
        let result = match direction {
            Direction::Up => {
                self.attempts[attempt].is_touched = true;
                let connection = self.connection_of(attempt).ok_or(SendError::Closed);
                connection.and_then(|connection| connection.send_with(channel, payload, options))
            }
            Direction::Down => {
                self.node.is_touched = true;
                let key = self.attempts[attempt].node_key.ok_or(SendError::Closed);
                key.and_then(|key| self.node.endpoint.send_with(key, channel, payload, options))
            }
        };
        self.digest.word(u64::from(message.bytes) << 8 | u64::from(result.is_ok()));
        self.tell_send(attempt, direction, channel, index, message.bytes, result.map(drop));
        if result.is_ok() {
            let may_expire = options.deadline.is_some();
            self.attempts[attempt].stream(direction, channel).on_sent(channel, message, may_expire);
        }
        result
    }

    /// Takes the newest message of a channel back, if nothing of it has been sent.
    fn cancel(&mut self, attempt: usize, direction: Direction, channel: Channel, id: MessageId) {
        let is_cancelled = match direction {
            Direction::Up => self.connection_of(attempt).is_some_and(|connection| connection.cancel(id)),
            Direction::Down => {
                let key = self.attempts[attempt].node_key;
                key.is_some_and(|key| self.node.endpoint.cancel(key, id))
            }
        };
        let stream = self.attempts[attempt].stream(direction, channel);
        let index = stream.next_index() - 1;
        if is_cancelled {
            stream.on_cancelled(channel, index);
        }
        self.trace.say(self.now, "application", || {
            let done = if is_cancelled { "takes back" } else { "is too late to take back" };
            format!("{done} {} {index}", channel_name(channel))
        });
    }

    /// Gives a connection what waits, as far as it takes it.
    fn send_waiting(&mut self, attempt: usize, direction: Direction, channel: Channel) {
        while let Some(&message) = self.attempts[attempt].stream(direction, channel).waiting.front() {
            let options = SendOptions { deadline: None, key: message.key };
            if self.send(attempt, direction, channel, message, options) == Err(SendError::Full) {
                return;
            }
            self.attempts[attempt].stream(direction, channel).waiting.pop_front();
        }
    }

    fn tell_send(
        &mut self,
        attempt: usize,
        direction: Direction,
        channel: Channel,
        index: u32,
        bytes: u32,
        result: Result<(), SendError>,
    ) {
        if !self.trace.is_on() {
            return;
        }
        let name = self.attempts[attempt].name();
        let (who, to) = match direction {
            Direction::Up => (name, String::new()),
            Direction::Down => ("node".to_owned(), format!(" to {name}")),
        };
        let channel = channel_name(channel);
        self.trace.say(self.now, &who, || match result {
            Ok(()) => format!("is given {channel} {index} ({bytes} B){to}"),
            Err(error) => format!("does not take {channel} {index} ({bytes} B){to}: {error}"),
        });
    }

    /// Half of the send buffer is free again.
    pub(super) fn on_writable(&mut self, attempt: usize, direction: Direction) {
        for channel in Channel::ALL {
            self.send_waiting(attempt, direction, channel);
        }
    }

    /// A message has been delivered.
    pub(super) fn on_message(
        &mut self,
        attempt: usize,
        direction: Direction,
        channel: Channel,
        value_key: u64,
        message: &[u8],
    ) -> Check {
        self.messages += 1;
        let place = Place { seed: self.scenario.seed, attempt, direction, channel, index: 0 };
        let plan = self.attempts[attempt].plan(&self.scenario);
        let appetite = match direction {
            Direction::Up => plan.node_appetite,
            Direction::Down => plan.client_appetite,
        };
        self.tell_message(attempt, direction, channel, message);
        let stream = self.attempts[attempt].stream(direction, channel);
        stream.on_message(place, value_key, message)?;
        stream.uneaten += message.len();
        match appetite {
            Appetite::AtOnce => {
                self.eat_up_to(attempt, direction, usize::MAX);
            }
            Appetite::Slow { every, .. } => {
                let is_eating = &mut self.attempts[attempt].is_eating[direction as usize];
                if !std::mem::replace(is_eating, true) {
                    self.agenda.add(self.now + every, Task::Eat { attempt, direction });
                }
            }
        }
        Ok(())
    }

    fn tell_message(&mut self, attempt: usize, direction: Direction, channel: Channel, message: &[u8]) {
        if !self.trace.is_on() {
            return;
        }
        let name = self.attempts[attempt].name();
        let (who, from) = match direction {
            Direction::Down => (name, String::new()),
            Direction::Up => ("node".to_owned(), format!(" from {name}")),
        };
        let index = crate::content::index_of(message).map_or_else(String::new, |index| format!(" {index}"));
        let channel = channel_name(channel);
        self.trace.say(self.now, &who, || format!("delivers {channel}{index} ({} B){from}", message.len()));
    }

    /// A slow application takes its next meal.
    pub(super) fn eat(&mut self, attempt: usize, direction: Direction) -> Check {
        let plan = self.attempts[attempt].plan(&self.scenario);
        let appetite = match direction {
            Direction::Up => plan.node_appetite,
            Direction::Down => plan.client_appetite,
        };
        let Appetite::Slow { every, bytes } = appetite else { return Ok(()) };
        let is_eating = self.eat_up_to(attempt, direction, bytes);
        self.attempts[attempt].is_eating[direction as usize] = is_eating;
        if is_eating {
            self.agenda.add(self.now + every, Task::Eat { attempt, direction });
        }
        Ok(())
    }

    /// Takes at most so many bytes; returns whether something is left.
    fn eat_up_to(&mut self, attempt: usize, direction: Direction, bytes: usize) -> bool {
        let mut left = bytes;
        let mut is_something_left = false;
        for channel in Channel::ALL {
            let stream = self.attempts[attempt].stream(direction, channel);
            let meal = stream.uneaten.min(left);
            stream.uneaten -= meal;
            is_something_left |= stream.uneaten > 0;
            left -= meal;
            if meal == 0 {
                continue;
            }
            match direction {
                Direction::Up => {
                    if let Some(key) = self.attempts[attempt].node_key {
                        self.node.endpoint.consume(key, channel, meal);
                        self.node.is_touched = true;
                    }
                }
                Direction::Down => {
                    self.attempts[attempt].is_touched = true;
                    if let Some(connection) = self.connection_of(attempt) {
                        connection.consume(channel, meal);
                    }
                }
            }
        }
        is_something_left
    }
}
