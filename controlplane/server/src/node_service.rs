//! `NodeService` of the contract: one stream per node, reports in, commands out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use proto::v1::node_command::Command;
use proto::v1::node_report::Report;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wire::Guuid;

use crate::api_key::ApiKey;
use crate::convert;
use crate::error::ControlError;
use crate::nodes::{Attachment, Nodes, record};
use crate::view::View;

/// Commands on their way to one node.
const COMMANDS_MAX: usize = 64;
/// How long a node may take to introduce itself.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

type Commands = mpsc::Sender<Result<v1::NodeCommand, Status>>;

#[derive(Debug)]
pub(crate) struct NodeService {
    pub(crate) nodes: Nodes,
    pub(crate) view: watch::Receiver<View>,
    pub(crate) api_key: ApiKey,
    pub(crate) stop: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl v1::node_service_server::NodeService for NodeService {
    type AttachStream = ReceiverStream<Result<v1::NodeCommand, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::NodeReport>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        self.api_key.check(request.metadata())?;
        let mut reports = request.into_inner();
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let (nodes, view, mut stop) = (self.nodes.clone(), self.view.clone(), self.stop.clone());
        // The answer's headers go out before the node has said anything: a client may wait for them first.
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = serve(&nodes, view, &mut reports, &sender) => ended,
                _ = stop.wait_for(|stop| *stop) => Err(ControlError::Draining.into()),
            };
            // Before the stream ends: who waits for that may want to open the store again.
            drop(nodes);
            if let Err(status) = ended {
                // Full or closed: the node sees the stream end in any case.
                drop(sender.try_send(Err(status)));
            }
        });
        Ok(Response::new(ReceiverStream::new(commands)))
    }
}

/// Serves one node until it goes, or must.
async fn serve(
    nodes: &Nodes,
    view: watch::Receiver<View>,
    reports: &mut Streaming<v1::NodeReport>,
    commands: &Commands,
) -> Result<(), Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, reports.message()).await;
    let first = first.map_err(|_| ControlError::NodeHello("no report came in time".to_owned()))??;
    let Some(Report::Hello(hello)) = first.and_then(|report| report.report) else {
        return Err(ControlError::NodeHello("the first report must be `hello`".to_owned()).into());
    };
    let record = record(hello)?;
    nodes.register(&record).await?;
    let (node_id, incarnation) = (record.node_id.clone(), record.incarnation);
    let (attachment, superseded) = nodes.attach(record);
    tracing::info!(node_id, %incarnation, "node attached");
    let ended = tokio::select! {
        ended = handle_reports(&attachment, reports) => ended,
        ended = push(view, commands) => ended,
        _ = superseded => Err(ControlError::NodeSuperseded(node_id.clone()).into()),
    };
    tracing::info!(node_id, %incarnation, "node detached");
    ended
}

async fn handle_reports(
    attachment: &Attachment,
    reports: &mut Streaming<v1::NodeReport>,
) -> Result<(), Status> {
    while let Some(report) = reports.message().await? {
        match report.report {
            Some(Report::Status(status)) => attachment.handle_status(&status),
            Some(Report::ConfigApplied(applied)) => attachment.handle_config_applied(&applied),
            Some(Report::Hello(_)) => {
                return Err(ControlError::NodeHello("a second `hello` on one stream".to_owned()).into());
            }
            None => {}
        }
    }
    Ok(())
}

/// What the node was last told.
#[derive(Default)]
struct Told {
    keys: Option<Arc<model::KeyRing>>,
    map_revision: Option<u64>,
    settings_version: Option<u64>,
    revoked: Arc<BTreeSet<Guuid>>,
}

impl Told {
    /// The commands that bring the node from what it was told to `view`. Keys come first: a client may be on
    /// its way with a ticket.
    fn catch_up(&mut self, view: &View) -> Vec<Command> {
        let mut commands = Vec::new();
        if self.keys.as_deref() != Some(&*view.keys) {
            commands.push(Command::TicketKeys(convert::keys(&view.keys)));
            self.keys = Some(Arc::clone(&view.keys));
        }
        for session_id in view.revoked.difference(&self.revoked) {
            let session_id = session_id.as_bytes().to_vec();
            commands.push(Command::SessionRevoked(v1::SessionRevoked { session_id }));
        }
        self.revoked = Arc::clone(&view.revoked);
        if self.settings_version != Some(view.settings.version) {
            commands.push(Command::Settings(convert::settings(&view.settings)));
            self.settings_version = Some(view.settings.version);
        }
        if self.map_revision != Some(view.map.revision) {
            commands.push(Command::Map(convert::map(&view.map)));
            self.map_revision = Some(view.map.revision);
        }
        commands
    }
}

/// Tells the node all that it must know, now and whenever that changes.
async fn push(mut view: watch::Receiver<View>, commands: &Commands) -> Result<(), Status> {
    let mut told = Told::default();
    loop {
        let current = view.borrow_and_update().clone();
        for command in told.catch_up(&current) {
            let command = v1::NodeCommand { command: Some(command) };
            if commands.send(Ok(command)).await.is_err() {
                return Ok(());
            }
        }
        if view.changed().await.is_err() {
            return Err(ControlError::Draining.into());
        }
    }
}
