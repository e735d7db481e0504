//! The part of protoc's command line that build scripts use, on a compiler written in Rust.
//!
//! `etcd-client` compiles its `.proto` files when it is built and asks for a `protoc`. The project
//! needs no system dependency beyond a C compiler, so `.cargo/config.toml` points `PROTOC` here.

use std::path::PathBuf;
use std::process::ExitCode;

use prost::Message;

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("protoc: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut args: impl Iterator<Item = String>) -> Result<(), Box<dyn std::error::Error>> {
    let (mut includes, mut files, mut output) = (Vec::new(), Vec::new(), None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--version" => {
                println!("libprotoc 30.0");
                return Ok(());
            }
            "--include_imports" | "--include_source_info" | "--experimental_allow_proto3_optional" => {}
            "-o" => output = args.next(),
            "-I" => includes.extend(args.next()),
            other => match (other.strip_prefix("-I"), other.strip_prefix("--descriptor_set_out=")) {
                (Some(folder), _) => includes.push(folder.to_owned()),
                (_, Some(path)) => output = Some(path.to_owned()),
                _ if other.starts_with('-') => return Err(format!("{other}: not an option here").into()),
                _ => files.push(PathBuf::from(other)),
            },
        }
    }
    let output = output.ok_or("no output named: -o FILE")?;
    // protoc takes a file by its path on disk as well as by its name below an include folder.
    let names = files.iter().map(|file| {
        includes.iter().find_map(|folder| file.strip_prefix(folder).ok()).unwrap_or(file).to_path_buf()
    });
    let mut compiler = protox::Compiler::new(&includes)?;
    compiler.include_imports(true).include_source_info(true).open_files(names)?;
    std::fs::write(output, compiler.file_descriptor_set().encode_to_vec())?;
    Ok(())
}
