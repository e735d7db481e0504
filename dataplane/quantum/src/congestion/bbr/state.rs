//! The states and their gains (sections "State Machine" and "Summary of Control Behavior in the State Machine").

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Startup,
    Drain,
    ProbeBwDown,
    ProbeBwCruise,
    ProbeBwRefill,
    ProbeBwUp,
    ProbeRtt,
}

impl State {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Drain => "drain",
            Self::ProbeBwDown => "probe-bw-down",
            Self::ProbeBwCruise => "probe-bw-cruise",
            Self::ProbeBwRefill => "probe-bw-refill",
            Self::ProbeBwUp => "probe-bw-up",
            Self::ProbeRtt => "probe-rtt",
        }
    }

    pub(super) const fn pacing_gain(self) -> f64 {
        match self {
            Self::Startup => 2.77,
            Self::Drain => 0.5,
            Self::ProbeBwDown => 0.9,
            Self::ProbeBwCruise | Self::ProbeBwRefill | Self::ProbeRtt => 1.0,
            Self::ProbeBwUp => 1.25,
        }
    }

    /// How many times the path's volume may be in flight.
    pub(super) const fn window_gain(self) -> f64 {
        match self {
            Self::ProbeBwUp => 2.25,
            Self::ProbeRtt => 0.5,
            _ => 2.0,
        }
    }

    pub(super) const fn is_probe_bw(self) -> bool {
        matches!(self, Self::ProbeBwDown | Self::ProbeBwCruise | Self::ProbeBwRefill | Self::ProbeBwUp)
    }

    /// Whether it sends more than it knows to fit: losses are then the answer that it asked for.
    pub(super) const fn is_probing_bandwidth(self) -> bool {
        matches!(self, Self::Startup | Self::ProbeBwRefill | Self::ProbeBwUp)
    }
}
