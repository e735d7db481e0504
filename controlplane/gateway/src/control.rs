//! The control plane as the gateway sees it: whose token is this, and sessions on behalf of callers.

use std::time::Duration;

use proto::v1::session_service_client::SessionServiceClient;
use proto::v1::{
    AuthenticateRequest, CreateSessionRequest, CreateSessionResponse, GetSessionRequest,
    RevokeSessionRequest, Session,
};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use wire::{Access, Grant, Guuid, access_to};

use crate::refusal::Refusal;

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Somebody who speaks to the gateway, and what is granted to them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Principal {
    /// None: anonymous, or the holder of the API key.
    pub(crate) session: Option<Guuid>,
    pub(crate) grants: Vec<Grant>,
}

impl Principal {
    /// Refuses less than `needed` on `document`; gives what is granted.
    pub(crate) fn require(&self, document: &str, needed: Access) -> Result<Access, Refusal> {
        match access_to(&self.grants, document) {
            Some(found) if found >= needed => Ok(found),
            found => Err(Refusal::forbidden(document, found, needed)),
        }
    }
}

/// Calls the control plane; connects when first needed, and again by itself.
#[derive(Clone, Debug)]
pub(crate) struct ControlApi {
    service: SessionServiceClient<Channel>,
    api_key: Option<MetadataValue<tonic::metadata::Ascii>>,
}

impl ControlApi {
    /// Fails when the URL or the key cannot be right.
    pub(crate) fn new(url: &str, api_key: Option<&str>) -> Result<Self, String> {
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| error.to_string())?;
        let channel = endpoint.timeout(CALL_TIMEOUT).connect_timeout(CALL_TIMEOUT).connect_lazy();
        let header = |key| MetadataValue::try_from(format!("Bearer {key}"));
        let api_key = api_key.map(header).transpose().map_err(|_| "the API key is not ASCII".to_owned())?;
        Ok(Self { service: SessionServiceClient::new(channel), api_key })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(key) = &self.api_key {
            request.metadata_mut().insert("authorization", key.clone());
        }
        request
    }

    /// The live session that the token belongs to.
    pub(crate) async fn authenticate(&self, token: &str) -> Result<Principal, Refusal> {
        let request = self.request(AuthenticateRequest { token: token.to_owned() });
        let session =
            self.service.clone().authenticate(request).await.map_err(|status| match status.code() {
                Code::Unauthenticated | Code::PermissionDenied | Code::NotFound | Code::InvalidArgument => {
                    Refusal::TokenRefused(status.message().to_owned())
                }
                _ => refusal(&status),
            })?;
        principal(&session.into_inner())
    }

    pub(crate) async fn create_session(
        &self,
        request: CreateSessionRequest,
    ) -> Result<CreateSessionResponse, Refusal> {
        let response = self.service.clone().create_session(self.request(request)).await;
        response.map(tonic::Response::into_inner).map_err(|status| refusal(&status))
    }

    pub(crate) async fn session(&self, id: Guuid) -> Result<Session, Refusal> {
        let request = self.request(GetSessionRequest { session_id: id.as_bytes().to_vec() });
        let response = self.service.clone().get_session(request).await;
        response.map(tonic::Response::into_inner).map_err(|status| refusal(&status))
    }

    pub(crate) async fn revoke_session(&self, id: Guuid) -> Result<(), Refusal> {
        let request = self.request(RevokeSessionRequest { session_id: id.as_bytes().to_vec() });
        self.service.clone().revoke_session(request).await.map(drop).map_err(|status| refusal(&status))
    }
}

fn refusal(status: &Status) -> Refusal {
    let text = status.message().to_owned();
    match status.code() {
        Code::InvalidArgument => Refusal::Query(text),
        Code::NotFound => Refusal::NotFound("session"),
        Code::Unauthenticated | Code::PermissionDenied => Refusal::ApiKey,
        code => Refusal::Unavailable(format!("control plane: {code:?}: {text}")),
    }
}

fn principal(session: &Session) -> Result<Principal, Refusal> {
    let unreadable = || Refusal::Unavailable("the control plane's answer holds no valid session".to_owned());
    let id = Guuid::from_slice(&session.session_id).ok_or_else(unreadable)?;
    let grants = session.grants.iter().map(from_proto).collect::<Option<_>>().ok_or_else(unreadable)?;
    Ok(Principal { session: Some(id), grants })
}

pub(crate) fn from_proto(grant: &proto::v1::Grant) -> Option<Grant> {
    let access = u8::try_from(grant.access).ok().and_then(Access::from_u8)?;
    Some(Grant { pattern: grant.pattern.clone(), access })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two enums are written in two places.
    #[test]
    fn an_access_changes_between_proto_and_wire() {
        use proto::v1::Access as Proto;
        let pairs = [
            (Proto::Presence, Access::Presence),
            (Proto::Read, Access::Read),
            (Proto::Write, Access::Write),
            (Proto::Admin, Access::Admin),
        ];
        for (proto, access) in pairs {
            let grant = proto::v1::Grant { pattern: "a".to_owned(), access: proto.into() };
            assert_eq!(from_proto(&grant).unwrap().access, access);
        }
        assert_eq!(from_proto(&proto::v1::Grant::default()), None);
    }

    #[test]
    fn a_reader_is_let_write() {
        let grants = vec![Grant { pattern: "team/*".to_owned(), access: Access::Read }];
        let principal = Principal { session: None, grants };
        assert_eq!(principal.require("team/a", Access::Read), Ok(Access::Read));
        assert!(matches!(principal.require("team/a", Access::Write), Err(Refusal::Forbidden { .. })));
        assert!(matches!(principal.require("other", Access::Presence), Err(Refusal::Forbidden { .. })));
    }
}
