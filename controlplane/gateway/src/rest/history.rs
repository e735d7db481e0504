//! The past and the end of documents over REST.

use std::sync::Arc;

use aetherflow_client::{At, ClientError, DocumentWriter, Version};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;
use wire::Access;

use super::documents::{UrlParameters, answer, ask, parameters};
use super::{bearer, principal};
use crate::config::REQUEST_TIMEOUT;
use crate::documents::{Command, Query, check_document_id};
use crate::gateway::App;
use crate::refusal::Refusal;
use crate::replica::Replica;

/// Reads `sequence:N`, `ms:N` or `version:NAME`.
pub(crate) fn moment(text: &str) -> Result<At, Refusal> {
    let bad = || {
        let expected = "sequence:NUMBER, ms:UNIX_MILLISECONDS or version:NAME";
        Refusal::Query(format!("at={text}: must be {expected}"))
    };
    let (kind, value) = text.split_once(':').ok_or_else(bad)?;
    match kind {
        "sequence" => value.parse().map(At::Sequence).map_err(|_| bad()),
        "ms" => value.parse().map(At::UnixMs).map_err(|_| bad()),
        "version" if !value.is_empty() => Ok(At::Version(value.to_owned())),
        _ => Err(bad()),
    }
}

/// The document as it was, in the format that `query` asks for.
pub(crate) async fn read_past(
    app: &Arc<App>,
    document: &str,
    at: At,
    query: Query,
) -> Result<Response, Refusal> {
    let past = with_writer(app, document, async |writer| writer.read_at(at).await).await?;
    let mut replica = Replica::default();
    replica.push(past.state)?;
    Ok(answer(replica.read(query)?))
}

/// The named versions.
pub(crate) async fn list(app: &Arc<App>, document: &str) -> Result<Value, Refusal> {
    let versions = with_writer(app, document, async |writer| writer.versions().await).await?;
    let to_json =
        |found: &Version| json!({ "name": found.name, "sequence": found.sequence, "unix_ms": found.unix_ms });
    Ok(versions.iter().map(to_json).collect())
}

/// Names the document as it is.
pub(crate) async fn name(app: &Arc<App>, document: &str, name: &str) -> Result<Response, Refusal> {
    let sequence = with_writer(app, document, async |writer| writer.create_version(name).await).await?;
    Ok(Json(json!({ "name": name, "sequence": sequence })).into_response())
}

/// `DELETE /v1/documents/{id}`: answers when it is durable.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Path(document): Path<String>,
    headers: HeaderMap,
    url: UrlParameters,
) -> Result<Response, Refusal> {
    delete_document(&app, &document, &headers, url).await.map_err(|why| app.refuse(why))
}

async fn delete_document(
    app: &Arc<App>,
    document: &str,
    headers: &HeaderMap,
    url: UrlParameters,
) -> Result<Response, Refusal> {
    check_document_id(document)?;
    let parameters = parameters(url)?;
    let secret = bearer(headers).or(parameters.token());
    principal(app, secret).await?.require(document, Access::Admin)?;
    with_writer(app, document, async |writer| writer.delete().await).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Asks the node about an open document. Who gives up gives the request up.
async fn with_writer<T>(
    app: &Arc<App>,
    document: &str,
    request: impl AsyncFnOnce(DocumentWriter) -> Result<T, ClientError>,
) -> Result<T, Refusal> {
    let asked = async {
        let (reply, writer) = oneshot::channel();
        let writer = ask(app, document, Command::Writer { reply }, writer).await?;
        request(writer).await.map_err(|error| match error {
            ClientError::RequestRefused { code, text } => Refusal::Node { code, text },
            ClientError::DocumentClosed { code, text } => Refusal::DocumentClosed { code, text },
            ClientError::VersionName(_) => Refusal::Query(error.to_string()),
            error => Refusal::Unavailable(error.to_string()),
        })
    };
    timeout(REQUEST_TIMEOUT, asked).await.unwrap_or(Err(Refusal::Timeout(REQUEST_TIMEOUT.as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_as_another() {
        assert_eq!(moment("sequence:12"), Ok(At::Sequence(12)));
        assert_eq!(moment("ms:1700000000000"), Ok(At::UnixMs(1_700_000_000_000)));
        assert_eq!(moment("version:a:b"), Ok(At::Version("a:b".to_owned())));
        for bad in ["", "12", "sequence:", "sequence:-1", "ms:x", "version:", "later:1"] {
            assert!(matches!(moment(bad), Err(Refusal::Query(_))), "{bad}");
        }
    }
}
