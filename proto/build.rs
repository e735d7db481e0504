//! Compiles the .proto files with a compiler written in Rust, so that no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=aetherflow");
    let files = protox::compile(["aetherflow/v1/control.proto", "aetherflow/v1/node.proto"], ["."])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
