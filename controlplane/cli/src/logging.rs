//! Events of the whole process, as JSON lines or as text, on standard error.

use model::config::{LogConfig, LogFormat};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// Sends events to standard error. `AETHERFLOW_LOG` overrides the configured level, per module if wanted
/// (`AETHERFLOW_LOG=info,gateway=debug`).
pub(crate) fn init(config: LogConfig) {
    let filter =
        EnvFilter::try_from_env("AETHERFLOW_LOG").unwrap_or_else(|_| EnvFilter::new(config.level.as_str()));
    let events = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second initialisation, as in tests, keeps the first.
    let _ = match config.format {
        LogFormat::Json => events.json().flatten_event(true).finish().try_init(),
        LogFormat::Text => events.with_ansi(false).finish().try_init(),
    };
}
