//! The control plane as a client sees it: sessions and their tickets, over gRPC.

use std::future::Future;
use std::time::Duration;

use proto::v1::session_service_client::SessionServiceClient;
use proto::v1::{CreateSessionRequest, IssueTicketRequest, IssueTicketResponse, PartitionMap};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use wire::{Access, Grant, Guuid};

use crate::placement::{NodePlace, Owner, PlacementError, PlacementMap};
use crate::ticket::{IssuedTicket, TicketRefusal, TicketSource};

/// How long one call to the control plane may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection to the control plane may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

const _: () = assert!(CONNECT_TIMEOUT.as_millis() < CALL_TIMEOUT.as_millis());

/// The tickets of one session, from the control plane.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    service: SessionServiceClient<Channel>,
    token: String,
}

/// A new session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreatedSession {
    /// Its id.
    pub session_id: Guuid,
    /// The secret by which tickets are issued.
    pub token: String,
    /// Not valid from this moment on, Unix milliseconds.
    pub expires_unix_ms: u64,
}

impl ControlPlane {
    /// Tickets of the session that `token` belongs to, from the control plane at `url` (`http://HOST:PORT`).
    pub async fn connect(url: &str, token: impl Into<String>) -> Result<Self, TicketRefusal> {
        Ok(Self { service: SessionServiceClient::new(channel(url).await?), token: token.into() })
    }

    /// Creates a session at the control plane at `url`. The API key is needed when the control plane has
    /// one. The session lives for `ttl_s` seconds; zero: as long as the control plane thinks right.
    pub async fn create_session(
        url: &str,
        user: &str,
        grants: &[Grant],
        api_key: Option<&str>,
        ttl_s: u32,
    ) -> Result<CreatedSession, TicketRefusal> {
        let mut service = SessionServiceClient::new(channel(url).await?);
        let grants = grants.iter().map(to_proto).collect();
        let mut request = Request::new(CreateSessionRequest { user: user.to_owned(), grants, ttl_s });
        if let Some(key) = api_key {
            let value = MetadataValue::try_from(format!("Bearer {key}"));
            let value = value.map_err(|_| TicketRefusal::Refused("the API key is not ASCII".to_owned()))?;
            request.metadata_mut().insert("authorization", value);
        }
        let response = service.create_session(request).await.map_err(|status| refusal(&status))?;
        let response = response.into_inner();
        let session = response.session.ok_or_else(|| unreadable("session"))?;
        Ok(CreatedSession {
            session_id: Guuid::from_slice(&session.session_id).ok_or_else(|| unreadable("session id"))?,
            token: response.token,
            expires_unix_ms: session.expires_unix_ms,
        })
    }
}

impl TicketSource for ControlPlane {
    fn ticket(
        &self,
        previous: Option<&[u8]>,
    ) -> impl Future<Output = Result<IssuedTicket, TicketRefusal>> + Send {
        let mut service = self.service.clone();
        let previous_ticket = previous.unwrap_or_default().to_vec();
        let request = IssueTicketRequest { token: self.token.clone(), previous_ticket };
        async move {
            let response = service.issue_ticket(request).await.map_err(|status| refusal(&status))?;
            issued(response.into_inner())
        }
    }
}

async fn channel(url: &str) -> Result<Channel, TicketRefusal> {
    let endpoint = Endpoint::from_shared(url.to_owned());
    let endpoint =
        endpoint.map_err(|error| TicketRefusal::Refused(format!("control plane URL {url}: {error}")))?;
    let endpoint = endpoint.timeout(CALL_TIMEOUT).connect_timeout(CONNECT_TIMEOUT);
    let connected = endpoint.connect().await;
    connected.map_err(|error| TicketRefusal::Unavailable(format!("control plane at {url}: {error}")))
}

fn issued(response: IssueTicketResponse) -> Result<IssuedTicket, TicketRefusal> {
    let map = response.map.ok_or_else(|| unreadable("partition map"))?;
    Ok(IssuedTicket {
        ticket: response.ticket,
        psk: response.psk.as_slice().try_into().map_err(|_| unreadable("pre-shared key"))?,
        writer_id: Guuid::from_slice(&response.writer_id).ok_or_else(|| unreadable("writer id"))?.writer(),
        session_id: Guuid::from_slice(&response.session_id).ok_or_else(|| unreadable("session id"))?,
        expires_unix_ms: response.expires_unix_ms,
        map: from_proto(map).map_err(|error| TicketRefusal::Unavailable(error.to_string()))?,
    })
}

/// A map as it comes from the control plane.
pub fn from_proto(map: PartitionMap) -> Result<PlacementMap, PlacementError> {
    let place = |node: proto::v1::NodeAddress| NodePlace {
        node: node.node,
        node_id: node.node_id,
        address: node.quantum_address,
        shards: node.shards,
    };
    let owner = |owner: &proto::v1::PartitionOwner| Owner {
        node: owner.node,
        shard: owner.shard,
        epoch: owner.epoch,
    };
    let owners = map.owners.iter().map(owner).collect();
    PlacementMap::new(map.revision, map.partition_count, map.nodes.into_iter().map(place).collect(), owners)
}

fn to_proto(grant: &Grant) -> proto::v1::Grant {
    let access = match grant.access {
        Access::Presence => proto::v1::Access::Presence,
        Access::Read => proto::v1::Access::Read,
        Access::Write => proto::v1::Access::Write,
        Access::Admin => proto::v1::Access::Admin,
    };
    proto::v1::Grant { pattern: grant.pattern.clone(), access: access.into() }
}

fn unreadable(what: &str) -> TicketRefusal {
    TicketRefusal::Unavailable(format!("the control plane's answer has no valid {what}"))
}

fn refusal(status: &Status) -> TicketRefusal {
    let text = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::NotFound | Code::InvalidArgument => {
            TicketRefusal::Refused(text)
        }
        _ => TicketRefusal::Unavailable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_filled_answer_is_taken_for_a_ticket() {
        let good = IssueTicketResponse {
            ticket: vec![1],
            psk: vec![2; 32],
            writer_id: vec![3; 16],
            expires_unix_ms: 5,
            map: Some(PartitionMap::default()),
            session_id: vec![4; 16],
        };
        assert_eq!(issued(good.clone()).unwrap().writer_id.counter(), 0);
        let bad = [
            IssueTicketResponse { psk: vec![2; 31], ..good.clone() },
            IssueTicketResponse { writer_id: vec![], ..good.clone() },
            IssueTicketResponse { session_id: vec![1], ..good.clone() },
            IssueTicketResponse { map: None, ..good },
        ];
        for response in bad {
            assert!(matches!(issued(response), Err(TicketRefusal::Unavailable(_))));
        }
    }

    #[test]
    fn a_revoked_session_is_asked_for_ever() {
        assert!(matches!(refusal(&Status::permission_denied("revoked")), TicketRefusal::Refused(_)));
        assert!(matches!(refusal(&Status::unavailable("starting")), TicketRefusal::Unavailable(_)));
    }
}
