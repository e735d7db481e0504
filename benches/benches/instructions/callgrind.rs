//! One workload under callgrind.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

use crate::args::CHILD;

/// Any function of this name, whatever it is instantiated with.
const TOGGLE: &str = "--toggle-collect=*counted_step*";

/// Why there is no count.
#[derive(Debug, Error)]
pub(crate) enum CallgrindError {
    /// The file system said no.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Valgrind or the workload ended badly.
    #[error("{name} under valgrind ended with {status}: {stderr}")]
    Failed { name: String, status: std::process::ExitStatus, stderr: String },
    /// The profile has no total, or nothing was counted.
    #[error("the profile {} has no count in it; is this build stripped of its symbols?", .0.display())]
    Uncounted(PathBuf),
}

/// What was counted.
pub(crate) struct Counted {
    pub(crate) steps: u64,
    pub(crate) instructions: u64,
}

impl Counted {
    pub(crate) fn instructions_per_step(&self) -> f64 {
        self.instructions as f64 / self.steps as f64
    }
}

/// `target/instructions/`, for the profiles and the figures of the last run.
pub(crate) fn directory() -> Result<PathBuf, CallgrindError> {
    let file = |what, path: &Path| {
        let path = path.to_owned();
        move |source| CallgrindError::File { what, path, source }
    };
    let executable = executable()?;
    // target/release/deps/instructions-…
    let target = executable.ancestors().nth(3).unwrap_or(Path::new("."));
    let directory = target.join("instructions");
    fs::create_dir_all(&directory).map_err(file("create", &directory))?;
    Ok(directory)
}

/// Runs the workload in a process of its own and counts what its steps execute.
pub(crate) fn count(name: &str, directory: &Path) -> Result<Counted, CallgrindError> {
    let profile = directory.join(format!("{}.callgrind", name.replace('/', ".")));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", TOGGLE])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(executable()?)
        .arg(format!("--{CHILD}"))
        .arg(name)
        .output()
        .map_err(|source| CallgrindError::File { what: "run", path: "valgrind".into(), source })?;
    let steps = String::from_utf8_lossy(&output.stdout).trim().parse().ok();
    let Some(steps) = steps.filter(|_| output.status.success()) else {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(CallgrindError::Failed { name: name.to_owned(), status: output.status, stderr });
    };
    let text = fs::read_to_string(&profile).map_err(|source| CallgrindError::File {
        what: "read",
        path: profile.clone(),
        source,
    })?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    match total.and_then(|total| total.trim().parse().ok()) {
        Some(instructions) if instructions > 0 => Ok(Counted { steps, instructions }),
        _ => Err(CallgrindError::Uncounted(profile)),
    }
}

fn executable() -> Result<PathBuf, CallgrindError> {
    std::env::current_exe().map_err(|source| CallgrindError::File {
        what: "find",
        path: "/proc/self/exe".into(),
        source,
    })
}
