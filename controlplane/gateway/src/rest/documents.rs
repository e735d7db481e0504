//! `/v1/documents/{id}`: reading documents, and applying updates.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query as UrlQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::timeout;
use wire::Access;
use wire::limits::OP_BYTES_MAX;

use super::{bearer, body, history, principal};
use crate::config::REQUEST_TIMEOUT;
use crate::documents::{Command, Query, Reading, check_document_id};
use crate::gateway::App;
use crate::refusal::Refusal;
use crate::replica::{check_state_vector, check_update};
use crate::yproto::UPDATE_EMPTY;

/// The root type that `format=text` reads unless `name` names another.
pub(crate) const DEFAULT_ROOT_NAME: &str = "content";

/// What is asked for in the address.
#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// `text`, `json`, `update` or `state-vector`; `versions` for the names of versions.
    format: Option<String>,
    /// The root type, for `text` and `json`.
    name: Option<String>,
    /// For `update`: leave out what this state vector (v1, in hexadecimal) covers.
    since: Option<String>,
    /// As the document was then: `sequence:N`, `ms:N` or `version:NAME`.
    at: Option<String>,
    /// The name for the document as it is.
    version: Option<String>,
    /// The session's token, where no header can be sent.
    token: Option<String>,
}

impl Parameters {
    /// The session's token, if it is in the address.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

fn query(parameters: Parameters) -> Result<Query, Refusal> {
    match parameters.format.as_deref().unwrap_or("text") {
        "text" => Ok(Query::Text(parameters.name.unwrap_or_else(|| DEFAULT_ROOT_NAME.to_owned()))),
        "json" => Ok(Query::Json(parameters.name)),
        "update" => {
            let since = parameters.since.as_deref().map(from_hex).transpose()?.unwrap_or_default();
            if !since.is_empty() {
                check_state_vector(&since)?;
            }
            Ok(Query::Update(since.into()))
        }
        "state-vector" => Ok(Query::StateVector),
        found => Err(Refusal::Query(format!(
            "format={found}: must be text, json, update, state-vector or versions"
        ))),
    }
}

fn from_hex(text: &str) -> Result<Vec<u8>, Refusal> {
    let bad = || Refusal::Query(format!("since={text}: not hexadecimal"));
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err(bad());
    }
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| bad());
    (0..text.len()).step_by(2).map(digits).collect()
}

pub(crate) type UrlParameters = Result<UrlQuery<Parameters>, QueryRejection>;

pub(crate) fn parameters(found: UrlParameters) -> Result<Parameters, Refusal> {
    found.map(|UrlQuery(parameters)| parameters).map_err(|error| Refusal::Query(error.body_text()))
}

/// `GET /v1/documents/{id}`.
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    Path(document): Path<String>,
    headers: HeaderMap,
    url: UrlParameters,
) -> Result<Response, Refusal> {
    read_document(&app, &document, &headers, url).await.map_err(|why| app.refuse(why))
}

async fn read_document(
    app: &Arc<App>,
    document: &str,
    headers: &HeaderMap,
    url: UrlParameters,
) -> Result<Response, Refusal> {
    check_document_id(document)?;
    let parameters = parameters(url)?;
    let secret = bearer(headers).or(parameters.token.as_deref());
    let principal = principal(app, secret).await?;
    let is_list = parameters.format.as_deref() == Some("versions");
    let is_past = parameters.at.is_some() || is_list;
    principal.require(document, if is_past { Access::Write } else { Access::Read })?;
    if is_list {
        let no_store = (header::CACHE_CONTROL, "no-store");
        return Ok(([no_store], Json(history::list(app, document).await?)).into_response());
    }
    let at = parameters.at.as_deref().map(history::moment).transpose()?;
    let query = query(parameters)?;
    if let Some(at) = at {
        return history::read_past(app, document, at, query).await;
    }
    let (reply, answer) = oneshot::channel();
    ask(app, document, Command::Read { query, reply }, answer).await.map(self::answer)
}

/// What was read, as a response.
pub(crate) fn answer(reading: Reading) -> Response {
    let no_store = (header::CACHE_CONTROL, "no-store");
    let plain = (header::CONTENT_TYPE, "text/plain; charset=utf-8");
    let binary = (header::CONTENT_TYPE, "application/octet-stream");
    match reading {
        Reading::Text(text) => ([no_store, plain], text).into_response(),
        Reading::Json(json) => ([no_store], Json(json)).into_response(),
        Reading::Bytes(bytes) => ([no_store, binary], bytes).into_response(),
    }
}

/// `POST /v1/documents/{id}`: applies the body, a Yjs update (v1), or names the document as it is by `version`; answers
/// when that is durable.
pub(crate) async fn apply(
    State(app): State<Arc<App>>,
    Path(document): Path<String>,
    headers: HeaderMap,
    url: UrlParameters,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    apply_update(&app, &document, &headers, url, bytes).await.map_err(|why| app.refuse(why))
}

async fn apply_update(
    app: &Arc<App>,
    document: &str,
    headers: &HeaderMap,
    url: UrlParameters,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    check_document_id(document)?;
    let parameters = parameters(url)?;
    let secret = bearer(headers).or(parameters.token.as_deref());
    principal(app, secret).await?.require(document, Access::Write)?;
    let update = body(bytes, OP_BYTES_MAX)?;
    if let Some(name) = parameters.version.as_deref() {
        if !update.is_empty() {
            return Err(Refusal::Query("with version= the body must be empty".to_owned()));
        }
        return history::name(app, document, name).await;
    }
    check_update(&update)?;
    if update == UPDATE_EMPTY {
        return Err(Refusal::Update("the update changes nothing".to_owned()));
    }
    let (reply, answer) = oneshot::channel();
    let applied = ask(app, document, Command::Apply { update, reply }, answer).await?;
    Ok(Json(json!({ "op_id": applied.op_id.to_string(), "sequence": applied.sequence })).into_response())
}

/// Hands the document's hub a command, and waits for its answer.
pub(crate) async fn ask<T>(
    app: &Arc<App>,
    document: &str,
    command: Command,
    answer: oneshot::Receiver<Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let hub = app.documents.hub(document)?;
    let asked = async {
        let gone = || Refusal::Unavailable("the document was closed meanwhile".to_owned());
        if !hub.send(command).await {
            return Err(gone());
        }
        answer.await.unwrap_or_else(|_| Err(gone()))
    };
    timeout(REQUEST_TIMEOUT, asked).await.unwrap_or(Err(Refusal::Timeout(REQUEST_TIMEOUT.as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(format: &str) -> Parameters {
        Parameters { format: Some(format.to_owned()), ..Parameters::default() }
    }

    #[test]
    fn a_format_is_answered_as_another() {
        assert_eq!(query(Parameters::default()), Ok(Query::Text("content".to_owned())));
        assert_eq!(query(of("json")), Ok(Query::Json(None)));
        assert_eq!(query(of("state-vector")), Ok(Query::StateVector));
        let since = Parameters { since: Some("0101FF01".to_owned()), ..of("update") };
        assert_eq!(query(since), Ok(Query::Update(vec![1, 1, 255, 1].into())));
        assert!(matches!(query(of("xml")), Err(Refusal::Query(_))));
    }

    #[test]
    fn a_state_vector_that_is_none_reaches_the_document() {
        for bad in ["0", "zz", "é0", "ff"] {
            let since = Parameters { since: Some(bad.to_owned()), ..of("update") };
            assert!(query(since).is_err(), "{bad}");
        }
    }
}
