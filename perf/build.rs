//! Tells the program which compiler it was made with.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(rustc).arg("--version").output().ok().filter(|output| output.status.success());
    let version = output.map_or_else(|| "unknown".to_owned(), |output| text(&output.stdout));
    println!("cargo:rustc-env=PERF_RUSTC={version}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
