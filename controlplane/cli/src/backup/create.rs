//! `aetherflow backup create`: asks a node.

use std::path::Path;
use std::time::Duration;

use model::Config;
use proto::v1::node_admin_client::NodeAdminClient;
use proto::v1::{BackupProgress, BackupRequest};
use serde_json::json;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};

use super::{CommandError, CreateArgs, block_on, progress_bar};
use crate::{output, roles};

/// Overrides the configuration file's.
const KEY_VARIABLE: &str = "AETHERFLOW_API_KEY";
/// How long a node may take to answer the call; the backup itself may take any time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn run(args: &CreateArgs) -> Result<(), CommandError> {
    let (address, key) = access(args.node.as_deref(), args.config.as_deref())?;
    let done = block_on(create(&address, &key, &args.to))?;
    let BackupProgress { id, parts, bytes, .. } = done;
    let to = &args.to;
    let told = json!({ "event": "created", "id": id, "to": to, "parts": parts, "bytes": bytes });
    output::print(args.output, &told, || format!("{id} is whole: {bytes} bytes in {parts} parts at {to}"));
    Ok(())
}

/// The node's address and the API key; empty: none.
fn access(node: Option<&str>, file: Option<&Path>) -> Result<(String, String), CommandError> {
    let config = file.map(roles::load).transpose()?.unwrap_or_else(Config::default);
    let address = match (node, config.node.admin) {
        (Some(node), _) => node.to_owned(),
        (None, Some(admin)) => admin.to_string(),
        (None, None) => {
            let file = file.map(|file| file.display().to_string()).unwrap_or_default();
            return Err(CommandError::NoAdmin { file });
        }
    };
    let key = std::env::var(KEY_VARIABLE).unwrap_or(config.control.api_key);
    Ok((address, key))
}

async fn create(address: &str, key: &str, to: &str) -> Result<BackupProgress, CommandError> {
    let unreachable = |error: tonic::transport::Error| CommandError::Unreachable {
        address: address.to_owned(),
        reason: causes(&error),
    };
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(unreachable)?;
    let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).connect().await.map_err(unreachable)?;
    let mut request = Request::new(BackupRequest { to: to.to_owned() });
    if !key.is_empty() {
        let bearer = format!("Bearer {key}").parse().map_err(|_| CommandError::Key)?;
        request.metadata_mut().insert("authorization", bearer);
    }
    let answer = NodeAdminClient::new(channel).backup(request).await;
    let mut steps = answer.map_err(|status| refusal(&status))?.into_inner();
    let bar = progress_bar(None);
    loop {
        match steps.message().await {
            Ok(Some(done)) if done.done => {
                bar.finish_and_clear();
                return Ok(done);
            }
            Ok(Some(step)) => bar.set_position(step.bytes),
            Ok(None) => return Err(CommandError::Broken("the node has stopped".to_owned())),
            Err(status) => return Err(CommandError::Broken(status.message().to_owned())),
        }
    }
}

fn refusal(status: &Status) -> CommandError {
    match status.code() {
        Code::Unauthenticated => CommandError::Key,
        _ => CommandError::Refused(status.message().to_owned()),
    }
}

/// What tonic says of it says nothing; what caused it does.
fn causes(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}
