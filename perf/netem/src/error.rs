//! What can be wrong with a network in words.

use strsim::levenshtein;
use thiserror::Error;

use crate::TraceError;

/// Why a text does not describe a network.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum SpecError {
    /// A key that does not exist.
    #[error("`{key}` is not a property of a network{}: the properties are {}", did_you_mean(*nearest), crate::KEYS.join(", "))]
    UnknownKey {
        /// As written.
        key: String,
        /// The known key most like it.
        nearest: Option<&'static str>,
    },
    /// A preset that does not exist.
    #[error("`{name}` is not a preset of a network{}: the presets are {}", did_you_mean(*nearest), crate::preset::names())]
    UnknownPreset {
        /// As written.
        name: String,
        /// The known preset most like it.
        nearest: Option<&'static str>,
    },
    /// A preset after something that it would overwrite.
    #[error("the preset `{name}` must be the first word: what follows it changes it")]
    PresetNotFirst {
        /// As written.
        name: String,
    },
    /// A value that its key does not take.
    #[error("`{key}={value}` makes no sense: it must be {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// As written.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A key that is there twice for one direction.
    #[error("`{key}` is there twice")]
    Twice {
        /// The key.
        key: &'static str,
    },
    /// Two keys that exclude each other.
    #[error("`{key}` and `{other}` exclude each other: there is one bottleneck in each direction")]
    Exclusive {
        /// The one.
        key: &'static str,
        /// The other.
        other: &'static str,
    },
    /// A key that needs another.
    #[error("`{key}` needs {needs}")]
    Alone {
        /// The key.
        key: &'static str,
        /// What is missing.
        needs: &'static str,
    },
    /// A trace that cannot be read.
    #[error("cannot read the capacity trace {path}: {message}")]
    TraceUnreadable {
        /// Where it should be.
        path: String,
        /// What the system said.
        message: String,
    },
    /// A file that is no trace.
    #[error("{path} is no capacity trace: {error}")]
    Trace {
        /// Where it is.
        path: String,
        /// What is wrong with it.
        error: TraceError,
    },
    /// Two directions where one is asked for.
    #[error("`{text}` describes two directions that differ, where one link is asked for")]
    TwoDirections {
        /// As written.
        text: String,
    },
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|known| format!(" (did you mean `{known}`?)")).unwrap_or_default()
}

/// The known word at the least edit distance, unless none is near enough to be what was meant.
pub(crate) fn nearest(word: &str, known: impl IntoIterator<Item = &'static str>) -> Option<&'static str> {
    let (distance, found) =
        known.into_iter().map(|known| (levenshtein(word, known), known)).min_by_key(|found| found.0)?;
    (distance <= word.len().max(found.len()) / 2).then_some(found)
}
