//! What is done with backups without a node: listing, checking, restoring.

use ::backup::{Listed, Target};
use rt::unix_ms;
use serde_json::{Value, json};

use super::{CommandError, ListArgs, RestoreArgs, VerifyArgs, block_on, progress_bar};
use crate::output;

pub(super) fn list(args: &ListArgs) -> Result<(), CommandError> {
    let listed = block_on(async { Ok(::backup::list(&Target::parse(&args.at)?).await?) })?;
    for found in &listed {
        output::print(args.output, &told(found), || text(found));
    }
    if listed.is_empty() {
        let none = json!({ "event": "none", "at": args.at });
        output::print(args.output, &none, || format!("there is no backup in {}", args.at));
    }
    Ok(())
}

fn told(Listed { id, manifest }: &Listed) -> Value {
    match manifest {
        Ok(found) => json!({
            "event": "backup", "id": id, "node_id": found.node_id, "shards": found.shards, "parts": found.parts.len(),
            "bytes": found.bytes(), "began_unix_ms": found.began_unix_ms, "ended_unix_ms": found.ended_unix_ms,
        }),
        Err(error) => {
            json!({ "event": "unusable", "id": id, "code": error.name(), "error": error.to_string() })
        }
    }
}

fn text(Listed { id, manifest }: &Listed) -> String {
    match manifest {
        Ok(found) => {
            let ms = found.ended_unix_ms.saturating_sub(found.began_unix_ms);
            let (node, shards) = (&found.node_id, found.shards);
            format!("{id}  whole: {node}, {shards} shards, {} bytes, taken in {ms} ms", found.bytes())
        }
        Err(error) => format!("{id}  of no use: {error}"),
    }
}

pub(super) fn verify(args: &VerifyArgs) -> Result<(), CommandError> {
    let (manifest, verified) = block_on(async {
        let bar = progress_bar(Some(0));
        let target = Target::parse(&args.at)?;
        let verified = ::backup::verify(&target, args.id.as_deref(), |bytes, all| {
            bar.set_length(all);
            bar.set_position(bytes);
        });
        Ok(verified.await?)
    })?;
    let (id, parts, bytes) = (&manifest.id, verified.parts, verified.bytes);
    let told = json!({ "event": "verified", "id": id, "parts": parts, "bytes": bytes });
    output::print(args.output, &told, || {
        format!("{id} is sound: {parts} parts, {bytes} bytes, each as it was written")
    });
    Ok(())
}

pub(super) fn restore(args: &RestoreArgs) -> Result<(), CommandError> {
    let restored = block_on(async {
        let bar = progress_bar(Some(0));
        let target = Target::parse(&args.from)?;
        let restored =
            ::backup::restore(&target, args.id.as_deref(), &args.data_dir, unix_ms(), |bytes, all| {
                bar.set_length(all);
                bar.set_position(bytes);
            });
        Ok(restored.await?)
    })?;
    let (id, shards) = (&restored.manifest.id, restored.manifest.shards);
    let (bytes, place) = (restored.manifest.bytes(), args.data_dir.display());
    let told = json!({
        "event": "restored", "id": id, "data_dir": place.to_string(), "shards": shards, "bytes": bytes,
    });
    output::print(args.output, &told, || {
        format!("{id} is in {place}: {shards} shards, {bytes} bytes; start a node over it")
    });
    Ok(())
}
