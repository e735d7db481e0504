//! `SessionService` of the contract.

use proto::v1;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::api_key::{ApiKey, bearer};
use crate::convert;
use crate::error::ControlError;
use crate::sessions::Sessions;
use crate::view::View;

/// Maps on their way to one watcher.
const MAPS_MAX: usize = 4;

#[derive(Debug)]
pub(crate) struct SessionService {
    pub(crate) sessions: Sessions,
    pub(crate) view: watch::Receiver<View>,
    pub(crate) api_key: ApiKey,
    pub(crate) stop: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl v1::session_service_server::SessionService for SessionService {
    async fn create_session(
        &self,
        request: Request<v1::CreateSessionRequest>,
    ) -> Result<Response<v1::CreateSessionResponse>, Status> {
        self.api_key.check(request.metadata())?;
        let request = request.into_inner();
        let grants = convert::grants(request.grants)?;
        let (session, token) = self.sessions.create(request.user, grants, request.ttl_s).await?;
        let session = Some(convert::session(&session));
        Ok(Response::new(v1::CreateSessionResponse { session, token }))
    }

    async fn issue_ticket(
        &self,
        request: Request<v1::IssueTicketRequest>,
    ) -> Result<Response<v1::IssueTicketResponse>, Status> {
        let request = request.into_inner();
        let issued = self.sessions.issue(&request.token, &request.previous_ticket).await?;
        let map = convert::map(&self.view.borrow().map);
        Ok(Response::new(v1::IssueTicketResponse {
            ticket: issued.sealed,
            psk: issued.ticket.psk.to_vec(),
            writer_id: issued.ticket.writer_id.as_bytes().to_vec(),
            expires_unix_ms: issued.ticket.expires_unix_s * 1_000,
            map: Some(map),
            session_id: issued.ticket.session_id.as_bytes().to_vec(),
        }))
    }

    async fn authenticate(
        &self,
        request: Request<v1::AuthenticateRequest>,
    ) -> Result<Response<v1::Session>, Status> {
        let session = self.sessions.authenticate(&request.get_ref().token).await?;
        Ok(Response::new(convert::session(&session)))
    }

    async fn get_session(
        &self,
        request: Request<v1::GetSessionRequest>,
    ) -> Result<Response<v1::Session>, Status> {
        self.api_key.check(request.metadata())?;
        let session_id = convert::guuid("session_id", &request.get_ref().session_id)?;
        match self.sessions.get(session_id).await {
            Ok(session) => Ok(Response::new(convert::session(&session))),
            Err(error @ ControlError::UnknownSession) => {
                Err(Status::not_found(format!("{}: {error}", error.code())))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn revoke_session(
        &self,
        request: Request<v1::RevokeSessionRequest>,
    ) -> Result<Response<v1::RevokeSessionResponse>, Status> {
        self.api_key.check(request.metadata())?;
        let session_id = convert::guuid("session_id", &request.get_ref().session_id)?;
        match self.sessions.revoke(session_id).await {
            Ok(()) => Ok(Response::new(v1::RevokeSessionResponse {})),
            Err(error @ ControlError::UnknownSession) => {
                Err(Status::not_found(format!("{}: {error}", error.code())))
            }
            Err(error) => Err(error.into()),
        }
    }

    type WatchMapStream = ReceiverStream<Result<v1::PartitionMap, Status>>;

    /// For whoever shows the API key or the token of a live session.
    async fn watch_map(
        &self,
        request: Request<v1::WatchMapRequest>,
    ) -> Result<Response<Self::WatchMapStream>, Status> {
        if let Err(error) = self.api_key.check(request.metadata()) {
            let token = bearer(request.metadata()).ok_or(error)?;
            self.sessions.authenticate(token).await?;
        }
        let (sender, maps) = mpsc::channel(MAPS_MAX);
        tokio::spawn(send_maps(self.view.clone(), self.stop.clone(), sender));
        Ok(Response::new(ReceiverStream::new(maps)))
    }
}

/// Sends the map now and whenever it changes; a slow watcher gets the newest.
async fn send_maps(
    mut view: watch::Receiver<View>,
    mut stop: watch::Receiver<bool>,
    sender: mpsc::Sender<Result<v1::PartitionMap, Status>>,
) {
    let mut sent = None;
    loop {
        let map = view.borrow_and_update().map.clone();
        if sent != Some(map.revision) {
            sent = Some(map.revision);
            tokio::select! {
                sent = sender.send(Ok(convert::map(&map))) => if sent.is_err() { return },
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}
