//! How eagerly a shard looks for work.

use wire::Span;

/// What a shard does when it has nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IdlePolicy {
    /// Never sleep: the lowest latency, at a whole core each.
    Busy,
    /// Spin for a short while after the last work, then sleep.
    #[default]
    Adaptive,
    /// Sleep at once.
    Saver,
}

impl IdlePolicy {
    /// How long to look for work before going to sleep.
    #[must_use]
    pub const fn spin(self) -> Span {
        match self {
            Self::Busy => Span::MAX,
            Self::Adaptive => Span::from_us(50),
            Self::Saver => Span::ZERO,
        }
    }
}

impl IdlePolicy {
    /// From its name in configuration and on the control channel.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "busy" => Some(Self::Busy),
            "adaptive" => Some(Self::Adaptive),
            "saver" => Some(Self::Saver),
            _ => None,
        }
    }
}
