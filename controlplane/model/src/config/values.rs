//! Values of the configuration that are more than a number or a string.

use std::fmt;
use std::path::PathBuf;

/// What a shard does when it has nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IdlePolicy {
    /// Spin always: the lowest latency, a whole core.
    Busy,
    /// Spin for a while after the last work, then sleep.
    #[default]
    Adaptive,
    /// Sleep at once.
    Saver,
}

impl IdlePolicy {
    /// The names, as in the file.
    pub const EXPECTED: &str = "\"busy\", \"adaptive\" or \"saver\"";

    /// From its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "busy" => Some(Self::Busy),
            "adaptive" => Some(Self::Adaptive),
            "saver" => Some(Self::Saver),
            _ => None,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Adaptive => "adaptive",
            Self::Saver => "saver",
        }
    }
}

/// What decides how much of a connection is in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Congestion {
    /// BBR, version 3: by a model of the path; random loss does not slow it.
    #[default]
    Bbr,
    /// CUBIC: by loss.
    Cubic,
}

impl Congestion {
    /// The names, as in the file.
    pub const EXPECTED: &str = "\"bbr\" or \"cubic\"";

    /// From its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "bbr" => Some(Self::Bbr),
            "cubic" => Some(Self::Cubic),
            _ => None,
        }
    }
}

/// Where the control plane keeps its state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreLocation {
    /// In one file of this machine.
    Embedded(PathBuf),
    /// On an etcd cluster with these endpoints.
    Etcd(Vec<String>),
}

impl StoreLocation {
    /// The forms, as in the file.
    pub const EXPECTED: &str = "\"embedded:PATH\" or \"etcd:URL,URL\"";

    /// From `embedded:PATH` or `etcd:URL,URL`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "embedded" if !rest.is_empty() => Some(Self::Embedded(PathBuf::from(rest))),
            "etcd" => {
                let urls: Vec<_> = rest.split(',').map(|url| url.trim().to_owned()).collect();
                urls.iter().all(|url| is_url(url)).then_some(Self::Etcd(urls))
            }
            _ => None,
        }
    }
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(path) => write!(f, "embedded:{}", path.display()),
            Self::Etcd(urls) => write!(f, "etcd:{}", urls.join(",")),
        }
    }
}

/// Whether it is `http://` or `https://` and something.
pub(super) fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace))
}

/// From which severity on events are logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what is suspicious.
    Warn,
    /// And what changed.
    #[default]
    Info,
    /// And why.
    Debug,
    /// And every step.
    Trace,
}

impl LogLevel {
    /// The names, as in the file.
    pub const EXPECTED: &str = "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"";

    /// From its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "error" => Some(Self::Error),
            "warn" => Some(Self::Warn),
            "info" => Some(Self::Info),
            "debug" => Some(Self::Debug),
            "trace" => Some(Self::Trace),
            _ => None,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The form of a log event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

impl LogFormat {
    /// The names, as in the file.
    pub const EXPECTED: &str = "\"json\" or \"text\"";

    /// From its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "json" => Some(Self::Json),
            "text" => Some(Self::Text),
            _ => None,
        }
    }
}
