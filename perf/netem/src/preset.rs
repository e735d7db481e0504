//! Networks that have a name.

/// A network with a name: the first word of a [`crate::PathSpec`] in words, changed by the words after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preset {
    /// The word.
    pub name: &'static str,
    /// The network in words.
    pub text: &'static str,
    /// What it stands for.
    pub about: &'static str,
}

/// All presets. Delays are one way. They are round figures for typical networks, not measurements of one.
pub const PRESETS: &[Preset] = &[
    Preset { name: "clean", text: "", about: "nothing happens to a packet" },
    Preset { name: "lan", text: "delay=100us jitter=20us rate=1gbit", about: "a switched office network" },
    Preset {
        name: "wifi",
        text: "delay=3ms jitter=2ms gilbert-elliott=0.3%,30%,60%,0% up.rate=40mbit down.rate=100mbit",
        about: "a shared Wi-Fi and a cable behind it; 0.6 % loss in short bursts",
    },
    Preset {
        name: "cellular",
        text: "delay=25ms jitter=8ms gilbert-elliott=0.2%,20%,50%,0.1% reorder=0.1%,10ms \
               up.rate=8mbit down.rate=25mbit queue=500kb",
        about: "a moving telephone: deep queue, 0.6 % loss",
    },
    Preset {
        name: "satellite",
        text: "delay=280ms jitter=10ms gilbert-elliott=0.1%,10%,50%,0% up.rate=3mbit down.rate=25mbit queue=750kb",
        about: "a geostationary satellite; 0.5 % loss in long bursts",
    },
    Preset {
        name: "leo",
        text: "delay=20ms jitter=6ms gilbert-elliott=0.3%,15%,50%,0.1% up.rate=15mbit down.rate=100mbit \
               blackhole=10s,60ms,15s",
        about: "low satellites: 1.1 % loss, an interruption at each hand-over",
    },
    Preset {
        name: "transatlantic",
        text: "delay=40ms jitter=500us loss=0.01% rate=1gbit",
        about: "Europe to the east of America by cable",
    },
    Preset {
        name: "lossy",
        text: "delay=10ms loss=1%",
        about: "20 ms round trip, each packet lost by itself, one of a hundred",
    },
    Preset {
        name: "bursty",
        text: "delay=10ms gilbert-elliott=0.25%,25%,100%,0%",
        about: "20 ms round trip, 1 % loss in bursts of 4 packets",
    },
    Preset {
        name: "terrible",
        text: "delay=60ms jitter=30ms gilbert-elliott=2%,20%,80%,1% reorder=1%,20ms duplicate=0.5% rate=2mbit queue=64kb",
        about: "a train at the edge of its cell: 8 % loss, reordering, copies",
    },
];

/// The preset of this name.
pub(crate) fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// All names, for messages.
pub(crate) fn names() -> String {
    PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PathSpec;

    #[test]
    fn a_preset_cannot_be_read_or_printed() {
        for preset in PRESETS {
            let spec: PathSpec = preset.name.parse().expect(preset.name);
            assert_eq!(spec.to_string().parse(), Ok(spec.clone()), "{}", preset.name);
            assert_eq!(preset.text.parse(), Ok(spec), "{}", preset.name);
        }
    }

    #[test]
    fn a_preset_loses_another_share_than_it_says() {
        for (name, percent) in
            [("wifi", 0.6), ("cellular", 0.6), ("satellite", 0.5), ("leo", 1.1), ("terrible", 8.2)]
        {
            let spec: PathSpec = name.parse().expect(name);
            let loss = spec.down.gilbert_elliott.expect("bursts").loss_rate() * 100.0;
            assert!((loss - percent).abs() < 0.06, "{name} loses {loss} %");
        }
    }
}
