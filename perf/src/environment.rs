//! The machine that a result comes from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What of the machine can move a figure. A fact that cannot be read is absent, never guessed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// By name: `kernel`, `cpu_model`, `cores_allowed`, `governor`, `mitigations`, `clocksource`, `memlock_bytes`,
    /// `virtualization`, `nic_offloads`, `cmdline`, `rustc`, `commit`, …
    pub facts: BTreeMap<String, String>,
}
