//! A scenario in words: what a trace begins with.

use std::fmt;

use netem::Direction;

use super::{Appetite, AttemptPlan, Ending, Flow, Incident, Scenario};

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client_config: client, node_config: node, .. } = self;
        writeln!(f, "seed {}", self.seed)?;
        writeln!(f, "network: {}", self.network)?;
        writeln!(f, "from {} on: {}", Ms(self.heal_at.as_us()), self.healed)?;
        for (who, config) in [("client", client), ("node", node)] {
            writeln!(
                f,
                "{who}: {:?}, ECN {}, datagrams of {} B, messages up to {} B, windows {} and {} B, send buffer {} B, \
                 idle {}, handshake {}, ACK delay {}",
                config.controller,
                if config.ecn { "on" } else { "off" },
                config.datagram_bytes_max,
                config.message_bytes_max,
                config.channel_window_bytes,
                config.receive_window_bytes,
                config.send_buffer_bytes_max,
                Ms(config.idle_timeout.as_us()),
                Ms(config.handshake_timeout.as_us()),
                Ms(config.max_ack_delay.as_us()),
            )?;
        }
        writeln!(f, "node takes: {:?}; trains of up to {}", self.limits, self.train_datagrams_max)?;
        writeln!(f, "attacks: {:?}; marks: {:?}", self.hostility, self.ecn_path)?;
        for (at, incident) in &self.incidents {
            writeln!(f, "at {}: {incident}", Ms(at.as_us()))?;
        }
        for (number, client) in self.clients.iter().enumerate() {
            for (attempt, plan) in client.attempts.iter().enumerate() {
                write!(f, "client {number}, from {}, connection {attempt}:", Ms(client.start.as_us()))?;
                writeln!(f, "{plan}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rebind(client) => write!(f, "client {client} gets another address from its NAT"),
            Self::Move { client, to, is_told } => {
                let told = if *is_told { "and is told" } else { "and is not told" };
                write!(f, "client {client} moves {told}, to a network: {to}")
            }
            Self::RotateId(client) => write!(f, "client {client} is asked for a fresh connection id"),
            Self::UpdateKeys(client) => write!(f, "client {client} is asked for fresh keys"),
            Self::Restart => f.write_str("the node restarts and has forgotten everything"),
        }
    }
}

impl fmt::Display for AttemptPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for flow in &self.flows {
            write!(f, " {flow};")?;
        }
        for (who, appetite) in [("client", self.client_appetite), ("node", self.node_appetite)] {
            if let Appetite::Slow { every, bytes } = appetite {
                write!(f, " the {who} takes {bytes} B each {};", Ms(every.as_us()))?;
            }
        }
        if let Some((after, ending)) = self.ending {
            write!(f, " after {} {}", Ms(after.as_us()), ending.in_words())?;
        }
        Ok(())
    }
}

impl Ending {
    pub(crate) const fn in_words(self) -> &'static str {
        match self {
            Self::ClientCloses => "the client closes",
            Self::NodeCloses => "the node closes",
            Self::ClientFinishes(_) => "the client finishes",
            Self::NodeFinishes(_) => "the node finishes",
            Self::ClientVanishes => "the client vanishes",
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::Up => "up",
            Direction::Down => "down",
        };
        write!(
            f,
            "{direction} {:?} {} x {} of {}..{} B each {} from {}",
            self.channel,
            self.ticks,
            self.burst,
            self.bytes_min,
            self.bytes_max,
            Ms(self.interval.as_us()),
            Ms(self.start.as_us())
        )?;
        if let Some(deadline) = self.deadline {
            write!(f, ", each worth sending for {}", Ms(deadline.as_us()))?;
        }
        if self.cancelled > 0 {
            write!(f, ", {} % of them taken back", self.cancelled)?;
        }
        Ok(())
    }
}

/// Microseconds, printed as milliseconds.
pub(crate) struct Ms(pub(crate) u64);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03} ms", self.0 / 1_000, self.0 % 1_000);
        f.pad(&text)
    }
}
