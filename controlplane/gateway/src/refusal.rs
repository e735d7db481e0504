//! Why a request or a socket is refused: one enum, one stable code each, for REST, sockets and metrics.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use thiserror::Error;
use wire::{Access, Code, Malformed};

use crate::replica::ReplicaError;

/// Why something was refused.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum Refusal {
    #[error("no token: send `Authorization: Bearer TOKEN`, or `?token=TOKEN` with a socket")]
    NoToken,
    #[error("the token is not valid: {0}")]
    TokenRefused(String),
    #[error("the API key is missing or wrong: send `Authorization: Bearer KEY`")]
    ApiKey,
    #[error("the session allows {found} on document {document}, {needed} is needed")]
    Forbidden { document: String, found: &'static str, needed: &'static str },
    #[error("document id: {0}")]
    DocumentId(String),
    #[error("{0}")]
    Query(String),
    #[error("a text frame: the y-websocket protocol is binary")]
    TextFrame,
    #[error("not a y-websocket message: {0}")]
    Frame(Malformed),
    #[error("not a WebSocket frame: {0}")]
    Socket(String),
    #[error("{0}")]
    Update(String),
    #[error("{0}")]
    StateVector(String),
    #[error("over the limit of {max} bytes")]
    TooLarge { max: usize },
    #[error("the socket reads too slowly: {max} bytes were waiting; connect again to be brought up to date")]
    SlowReader { max: usize },
    #[error("the limit of {limit} {what} is reached; try again later")]
    Limit { what: &'static str, limit: usize },
    #[error("the node refused the op: {code}: {text}")]
    OpRejected { code: Code, text: String },
    #[error("the node closed the document: {code}: {text}")]
    DocumentClosed { code: Code, text: String },
    #[error("the node refused the request: {code}: {text}")]
    Node { code: Code, text: String },
    #[error("no such {0}")]
    NotFound(&'static str),
    #[error("not available: {0}; try again later")]
    Unavailable(String),
    #[error("not durable within {0} s; it may become so: apply the same update again to be sure")]
    Timeout(u64),
    #[error("{0}")]
    Replica(String),
    #[error("the gateway is shutting down; connect again")]
    Draining,
}

/// Where each variant shows: stable code, HTTP status, close code. Close codes from 4400 to 4499 tell the
/// provider that trying again is of no use.
struct Facts(&'static str, StatusCode, u16);

impl Refusal {
    fn facts(&self) -> Facts {
        use StatusCode as S;
        match self {
            Self::NoToken => Facts("unauthenticated", S::UNAUTHORIZED, 4401),
            Self::TokenRefused(_) => Facts("token-refused", S::UNAUTHORIZED, 4401),
            Self::ApiKey => Facts("api-key-refused", S::UNAUTHORIZED, 4401),
            Self::Forbidden { .. } => Facts(Code::Forbidden.name(), S::FORBIDDEN, 4403),
            Self::DocumentId(_) => Facts(Code::DocumentId.name(), S::BAD_REQUEST, 4400),
            Self::Query(_) => Facts("invalid-request", S::BAD_REQUEST, 4400),
            Self::TextFrame => Facts("text-frame", S::BAD_REQUEST, 4400),
            Self::Frame(_) => Facts(Code::MalformedMessage.name(), S::BAD_REQUEST, 4400),
            Self::Socket(_) => Facts("websocket-protocol", S::BAD_REQUEST, 1002),
            Self::Update(_) => Facts(Code::UndecodableUpdate.name(), S::UNPROCESSABLE_ENTITY, 4422),
            Self::StateVector(_) => Facts(Code::StateVector.name(), S::UNPROCESSABLE_ENTITY, 4422),
            Self::TooLarge { .. } => Facts(Code::MessageTooLarge.name(), S::PAYLOAD_TOO_LARGE, 1009),
            Self::SlowReader { .. } => Facts("slow-reader", S::SERVICE_UNAVAILABLE, 1013),
            Self::Limit { .. } => Facts(Code::LimitReached.name(), S::SERVICE_UNAVAILABLE, 1013),
            Self::OpRejected { code, .. } | Self::DocumentClosed { code, .. } | Self::Node { code, .. } => {
                node_facts(*code)
            }
            Self::NotFound(_) => Facts("not-found", S::NOT_FOUND, 4404),
            Self::Unavailable(_) => Facts("unavailable", S::SERVICE_UNAVAILABLE, 1013),
            Self::Timeout(_) => Facts("not-durable-in-time", S::GATEWAY_TIMEOUT, 1013),
            Self::Replica(_) => Facts(Code::Quarantined.name(), S::SERVICE_UNAVAILABLE, 1011),
            Self::Draining => Facts(Code::Draining.name(), S::SERVICE_UNAVAILABLE, 1012),
        }
    }

    /// The code in problem documents and metrics; it never changes its meaning.
    pub(crate) fn code(&self) -> &'static str {
        self.facts().0
    }

    /// The close code of a socket.
    pub(crate) fn close_code(&self) -> u16 {
        self.facts().2
    }

    /// `needed` was asked for and less is granted.
    pub(crate) fn forbidden(document: &str, found: Option<Access>, needed: Access) -> Self {
        let found = found.map_or("nothing", access_name);
        Self::Forbidden { document: document.to_owned(), found, needed: access_name(needed) }
    }
}

/// Refusals of the node: what cannot be mended by trying again closes a socket for good.
fn node_facts(code: Code) -> Facts {
    use StatusCode as S;
    let (status, close) = match code {
        Code::Forbidden => (S::FORBIDDEN, 4403),
        Code::DocumentId | Code::MalformedMessage | Code::StateVector => (S::BAD_REQUEST, 4400),
        Code::UndecodableUpdate => (S::UNPROCESSABLE_ENTITY, 4422),
        Code::KindMismatch => (S::CONFLICT, 4409),
        Code::OpTooLarge | Code::MessageTooLarge => (S::PAYLOAD_TOO_LARGE, 1009),
        Code::DocumentDeleted => (S::GONE, 4404),
        Code::UnknownVersion | Code::HistoryNotKept => (S::NOT_FOUND, 4404),
        Code::DocumentFull => (S::INSUFFICIENT_STORAGE, 4413),
        _ => (S::SERVICE_UNAVAILABLE, 1013),
    };
    Facts(code.name(), status, close)
}

fn access_name(access: Access) -> &'static str {
    match access {
        Access::Presence => "presence",
        Access::Read => "read",
        Access::Write => "write",
        Access::Admin => "admin",
    }
}

impl From<ReplicaError> for Refusal {
    fn from(error: ReplicaError) -> Self {
        match error {
            ReplicaError::Update(_) => Self::Update(error.to_string()),
            ReplicaError::StateVector(_) => Self::StateVector(error.to_string()),
            ReplicaError::Broken(_) => Self::Replica(error.to_string()),
        }
    }
}

impl IntoResponse for Refusal {
    /// A problem document (RFC 9457) with the stable code as `code`.
    fn into_response(self) -> Response {
        let Facts(code, status, _) = self.facts();
        let title = status.canonical_reason().unwrap_or_default();
        let body = json!({
            "type": format!("urn:aetherflow:problem:{code}"),
            "title": title,
            "status": status.as_u16(),
            "code": code,
            "detail": self.to_string(),
        });
        let mut response = (status, Json(body)).into_response();
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, problem);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_tries_for_ever_what_cannot_succeed() {
        let permanent = |refusal: Refusal| (4400..4500).contains(&refusal.close_code());
        assert!(permanent(Refusal::NoToken) && permanent(Refusal::TextFrame));
        assert!(permanent(Refusal::forbidden("a", None, Access::Read)));
        assert!(permanent(Refusal::Update(String::new())));
        assert!(!permanent(Refusal::SlowReader { max: 1 }) && !permanent(Refusal::Draining));
        let busy = Refusal::OpRejected { code: Code::LogBusy, text: String::new() };
        assert!(!permanent(busy));
    }

    #[test]
    fn an_error_is_not_a_problem_document() {
        let response = Refusal::NotFound("session").into_response();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}
