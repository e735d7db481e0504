//! What a command prints: lines for people, or one JSON object per line for programs.

use std::process::ExitCode;

use serde::Serialize;

use crate::args::Output;

/// The exit status of a command that did what it was asked.
pub(crate) const OK: ExitCode = ExitCode::SUCCESS;

/// Prints one result.
pub(crate) fn print(output: Output, value: &impl Serialize, text: impl FnOnce() -> String) {
    use std::io::Write;
    let line = match output {
        Output::Json => serde_json::to_string(value).expect("results have string keys"),
        Output::Text => text(),
    };
    let mut out = std::io::stdout().lock();
    // A reader that has gone away is no failure of the command.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Says what went wrong on standard error and gives the exit status for it.
pub(crate) fn fail(output: Output, error: &dyn std::error::Error) -> ExitCode {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Transparent errors repeat their cause.
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    match output {
        Output::Json => eprintln!("{}", serde_json::json!({ "event": "error", "error": text })),
        Output::Text => eprintln!("error: {text}"),
    }
    ExitCode::FAILURE
}
