//! `/v1/sessions`: sessions for those who hold the API key.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use proto::v1::{CreateSessionRequest, Session};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wire::{Access, Guuid};

use super::{bearer, body, is_api_key};
use crate::config::SESSION_BODY_BYTES_MAX;
use crate::control::from_proto;
use crate::gateway::App;
use crate::refusal::Refusal;

/// The body of `POST /v1/sessions`.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct CreateSession {
    user: String,
    /// Empty: every document, to write.
    #[serde(default)]
    grants: Vec<RestGrant>,
    /// Zero: as long as the control plane thinks right.
    #[serde(default)]
    ttl_s: u32,
}

#[derive(Deserialize, Serialize, Debug)]
#[serde(deny_unknown_fields)]
struct RestGrant {
    pattern: String,
    access: RestAccess,
}

#[derive(Clone, Copy, Deserialize, Serialize, Debug)]
#[serde(rename_all = "lowercase")]
enum RestAccess {
    Presence,
    Read,
    Write,
    Admin,
}

impl RestAccess {
    fn to_proto(self) -> proto::v1::Access {
        match self {
            Self::Presence => proto::v1::Access::Presence,
            Self::Read => proto::v1::Access::Read,
            Self::Write => proto::v1::Access::Write,
            Self::Admin => proto::v1::Access::Admin,
        }
    }

    fn from_wire(access: Access) -> Self {
        match access {
            Access::Presence => Self::Presence,
            Access::Read => Self::Read,
            Access::Write => Self::Write,
            Access::Admin => Self::Admin,
        }
    }
}

fn parse(body: &[u8]) -> Result<CreateSessionRequest, Refusal> {
    let bad = |error: serde_json::Error| Refusal::Query(format!("body: {error}"));
    let CreateSession { user, grants, ttl_s } = serde_json::from_slice(body).map_err(bad)?;
    let to_proto = |grant: RestGrant| proto::v1::Grant {
        pattern: grant.pattern,
        access: grant.access.to_proto().into(),
    };
    let mut grants: Vec<_> = grants.into_iter().map(to_proto).collect();
    if grants.is_empty() {
        grants.push(proto::v1::Grant { pattern: "*".to_owned(), access: proto::v1::Access::Write.into() });
    }
    Ok(CreateSessionRequest { user, grants, ttl_s })
}

/// A session as JSON; the token is shown once, by its creation.
fn to_json(session: &Session) -> Value {
    let id = Guuid::from_slice(&session.session_id).unwrap_or(Guuid::NIL);
    let grants = session
        .grants
        .iter()
        .filter_map(from_proto)
        .map(|grant| RestGrant { pattern: grant.pattern, access: RestAccess::from_wire(grant.access) });
    json!({
        "session_id": id.to_string(),
        "user": session.user,
        "grants": grants.collect::<Vec<_>>(),
        "created_unix_ms": session.created_unix_ms,
        "expires_unix_ms": session.expires_unix_ms,
        "revoked": session.revoked,
    })
}

fn authorise(app: &App, headers: &HeaderMap) -> Result<(), Refusal> {
    let key = app.config.api_key();
    let allowed = key.is_none() || bearer(headers).is_some_and(|found| is_api_key(key, found));
    if allowed { Ok(()) } else { Err(Refusal::ApiKey) }
}

fn session_id(text: &str) -> Result<Guuid, Refusal> {
    Guuid::parse(text).ok_or_else(|| Refusal::Query(format!("session id {text:?}: not a UUID")))
}

/// `POST /v1/sessions`.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    authorise(&app, &headers).map_err(|why| app.refuse(why))?;
    let request = body(bytes, SESSION_BODY_BYTES_MAX).and_then(|body| parse(&body));
    let created = app.control.create_session(request.map_err(|why| app.refuse(why))?).await;
    let created = created.map_err(|why| app.refuse(why))?;
    let session = created.session.unwrap_or_default();
    let mut answer = to_json(&session);
    let location = format!("/v1/sessions/{}", answer["session_id"].as_str().unwrap_or_default());
    answer["token"] = created.token.into();
    let headers = [(header::LOCATION, location), (header::CACHE_CONTROL, "no-store".to_owned())];
    Ok((StatusCode::CREATED, headers, Json(answer)).into_response())
}

/// `GET /v1/sessions/{id}`.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    authorise(&app, &headers).map_err(|why| app.refuse(why))?;
    let id = session_id(&id).map_err(|why| app.refuse(why))?;
    app.control.session(id).await.map(|session| Json(to_json(&session))).map_err(|why| app.refuse(why))
}

/// `DELETE /v1/sessions/{id}`.
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    authorise(&app, &headers).map_err(|why| app.refuse(why))?;
    let id = session_id(&id).map_err(|why| app.refuse(why))?;
    app.control.revoke_session(id).await.map(|()| StatusCode::NO_CONTENT).map_err(|why| app.refuse(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_created_from_what_was_not_asked_for() {
        let request =
            parse(br#"{"user":"ada","grants":[{"pattern":"team/*","access":"read"}],"ttl_s":60}"#).unwrap();
        assert_eq!((request.user.as_str(), request.ttl_s), ("ada", 60));
        assert_eq!(request.grants[0].access, i32::from(proto::v1::Access::Read));
        let defaults = parse(br#"{"user":"ada"}"#).unwrap();
        assert_eq!((defaults.grants[0].pattern.as_str(), defaults.ttl_s), ("*", 0));
        let bad = [
            &b""[..],
            b"{}",
            br#"{"user":1}"#,
            br#"{"user":"a","grant":[]}"#,
            br#"{"user":"a","grants":[{"pattern":"*","access":"root"}]}"#,
            br#"{"user":"a","ttl_s":-1}"#,
        ];
        for body in bad {
            assert!(matches!(parse(body), Err(Refusal::Query(_))), "{}", String::from_utf8_lossy(body));
        }
    }
}
