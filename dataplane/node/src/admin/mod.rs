//! What an operator asks of the node, over gRPC: served by the agent's thread.

mod backup;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use ::backup::{Subject, Target};
use proto::v1::node_admin_server::{NodeAdmin, NodeAdminServer};
use proto::v1::{BackupProgress, BackupRequest};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use crate::error::NodeError;
use crate::storage::StorageControl;

/// Progress that waits for the operator; more is left out.
const PROGRESS_MAX: usize = 16;

/// How far a shard's log is durable: the segment, and the bytes of it.
pub(crate) type LogEnd = (u32, u64);

/// Asks the agent to have a shard hold its log, or no longer hold it.
pub(crate) struct HoldRequest {
    pub(crate) shard: usize,
    pub(crate) is_held: bool,
    pub(crate) reply: oneshot::Sender<LogEnd>,
}

/// What the service works with.
pub(crate) struct Admin {
    /// The key that is asked for; empty: none.
    pub(crate) api_key: String,
    pub(crate) subject: Subject,
    /// Of each shard.
    pub(crate) log_dirs: Vec<PathBuf>,
    pub(crate) storage: Vec<StorageControl>,
    pub(crate) holds: mpsc::Sender<HoldRequest>,
}

/// Binds the socket of the service.
pub(crate) fn listen(address: SocketAddr, api_key: &str) -> Result<TcpListener, NodeError> {
    if api_key.is_empty() && !address.ip().is_loopback() {
        return Err(NodeError::Config(format!(
            "[node] admin = {address} is reached by others: set [control] api_key, or listen on a loopback address"
        )));
    }
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|source| NodeError::Admin { address, source })
}

/// Serves until the runtime ends.
pub(crate) async fn serve(listener: TcpListener, admin: Admin) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return warn!(%error, "the admin service does not serve"),
    };
    let service = Service { admin: Arc::new(admin), busy: Arc::default() };
    let serving = Server::builder().add_service(NodeAdminServer::new(service));
    if let Err(error) = serving.serve_with_incoming(TcpIncoming::from(listener)).await {
        warn!(%error, "the admin service ended");
    }
}

struct Service {
    admin: Arc<Admin>,
    /// Held while a backup is made.
    busy: Arc<Mutex<()>>,
}

#[tonic::async_trait]
impl NodeAdmin for Service {
    type BackupStream = Pin<Box<dyn Stream<Item = Result<BackupProgress, Status>> + Send>>;

    async fn backup(&self, request: Request<BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        self.check(&request)?;
        let Ok(turn) = self.busy.clone().try_lock_owned() else {
            return Err(Status::unavailable("another backup of this node is being made: wait for its end"));
        };
        let to = request.into_inner().to;
        let target = Target::parse(&to).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let (progress, out) = mpsc::channel(PROGRESS_MAX);
        let admin = self.admin.clone();
        tokio::spawn(async move {
            let _turn = turn;
            info!(to, "a backup begins");
            match backup::make(&admin, target, &progress).await {
                Ok(done) => {
                    info!(to, id = done.id, bytes = done.bytes, "a backup was made");
                    let _ = progress.send(Ok(done)).await;
                }
                Err(reason) => {
                    warn!(to, reason, "a backup failed");
                    let _ = progress.send(Err(Status::aborted(reason))).await;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(out))))
    }
}

impl Service {
    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let key = self.admin.api_key.as_bytes();
        let header: &[u8] = match request.metadata().get("authorization") {
            Some(header) => header.as_bytes(),
            None => &[],
        };
        let shown = header.strip_prefix(b"Bearer ").unwrap_or_default();
        // Takes as long wherever they differ.
        let differs = shown
            .iter()
            .zip(key)
            .fold(shown.len() ^ key.len(), |differs, (a, b)| differs | usize::from(a ^ b));
        if key.is_empty() || differs == 0 {
            return Ok(());
        }
        Err(Status::unauthenticated(
            "this call needs the metadata `authorization: Bearer KEY` with the API key",
        ))
    }
}
