//! Valgrind, which is installed if it is missing and may be.

use std::process::{Command, Stdio};

use thiserror::Error;

/// Valgrind cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("instruction counts: valgrind is not installed; as root: apt-get install valgrind")]
pub(crate) struct Missing;

pub(crate) struct Valgrind {
    version: String,
}

impl Valgrind {
    pub(crate) fn find_or_install() -> Result<Self, Missing> {
        Self::find()
            .or_else(|| {
                install();
                Self::find()
            })
            .ok_or(Missing)
    }

    /// Such as `valgrind-3.19.0`.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    fn find() -> Option<Self> {
        let output = Command::new("valgrind").arg("--version").output().ok()?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(Self { version })
    }
}

/// Tries to install it where this needs no question: as root, with apt.
fn install() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let apt = |arguments: &[&str]| {
        let command = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        command.is_ok_and(|status| status.success())
    };
    eprintln!("installing valgrind");
    let install = ["install", "-y", "-qq", "--no-install-recommends", "valgrind"];
    if !apt(&install) {
        apt(&["update", "-qq"]);
        apt(&install);
    }
}
