//! Where the node's program is.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::ChaosError;

/// The program.
const NAME: &str = "aetherflow";

/// The program `aetherflow`.
#[derive(Clone, Debug)]
pub struct Program(pub(crate) PathBuf);

impl Program {
    /// The program at `path`.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Has cargo build it, beside this program and as this one was built: without this a test would kill a program of last
    /// week.
    ///
    /// # Errors
    /// It cannot be built, with what cargo said.
    pub fn build() -> Result<Self, ChaosError> {
        let failed = |why: String| ChaosError::Program(why);
        let own = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let profile = own
            .ancestors()
            .skip(1)
            .find(|path| path.file_name().is_some_and(|name| name != "deps"))
            .ok_or_else(|| failed(format!("{} is in no directory of cargo's", own.display())))?;
        let target = profile.parent().unwrap_or(profile);
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // Of the whole workspace, as tests are built: with other features of its dependencies all of them were built again.
        cargo.args(["build", "--quiet", "--workspace", "--bin", NAME, "--target-dir"]).arg(target);
        cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let built = cargo.output().map_err(|error| failed(format!("cargo: {error}")))?;
        if !built.status.success() {
            return Err(failed(String::from_utf8_lossy(&built.stderr).into_owned()));
        }
        Ok(Self(profile.join(NAME)))
    }
}
