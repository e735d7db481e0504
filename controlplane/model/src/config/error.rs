//! What can be wrong with a configuration file.

use std::fmt;

use thiserror::Error;

/// Where in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The section's full name; empty for the top of the file.
    pub section: String,
    /// The key.
    pub key: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, section, key } = self;
        if section.is_empty() {
            write!(f, "line {line}: `{key}`")
        } else {
            write!(f, "line {line}: `{key}` in [{section}]")
        }
    }
}

/// Why a configuration is refused.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConfigError {
    /// Not TOML.
    #[error("line {line}: not valid TOML: {message}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// A key that does not exist.
    #[error("{place} is not a known key{}", nearest.as_ref().map(|key| format!(": did you mean `{key}`?")).unwrap_or_default())]
    UnknownKey {
        /// Where.
        place: Place,
        /// The known key most like it.
        nearest: Option<String>,
    },
    /// A value of the wrong type.
    #[error("{place} must be {expected}, not {found}")]
    Type {
        /// Where.
        place: Place,
        /// The type that the key takes.
        expected: &'static str,
        /// The type found.
        found: &'static str,
    },
    /// A number out of its range.
    #[error("{place} is {value}: it must be from {min} to {max}")]
    Range {
        /// Where.
        place: Place,
        /// As written.
        value: String,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// Text that does not say what it should.
    #[error("{place} is \"{value}\": it must be {expected}")]
    Invalid {
        /// Where.
        place: Place,
        /// As written.
        value: String,
        /// What it must be.
        expected: String,
    },
}
