//! The REST API: sessions, documents, health.

pub(crate) mod documents;
pub(crate) mod history;
pub(crate) mod sessions;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use wire::{Access, Grant};

use crate::control::Principal;
use crate::gateway::App;
use crate::refusal::Refusal;

/// The secret in `Authorization: Bearer SECRET`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim()).filter(|secret| !secret.is_empty())
}

/// Whether `found` is the API key, in a time that does not tell how much of it is right.
pub(crate) fn is_api_key(api_key: Option<&str>, found: &str) -> bool {
    api_key.is_some_and(|key| {
        let differing = key.bytes().zip(found.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
        key.len() == found.len() && differing == 0
    })
}

/// Who asks: the holder of a session's token or of the API key, or somebody without either.
pub(crate) async fn principal(app: &Arc<App>, secret: Option<&str>) -> Result<Principal, Refusal> {
    match secret {
        None => {
            if app.config.anonymous.is_empty() {
                return Err(Refusal::NoToken);
            }
            Ok(Principal { session: None, grants: app.config.anonymous.clone() })
        }
        Some(secret) if is_api_key(app.config.api_key(), secret) => {
            let grants = vec![Grant { pattern: "*".to_owned(), access: Access::Admin }];
            Ok(Principal { session: None, grants })
        }
        Some(token) => app.control.authenticate(token).await,
    }
}

/// A body within the limit.
pub(crate) fn body(body: Result<Bytes, BytesRejection>, max: usize) -> Result<Bytes, Refusal> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::TooLarge { max },
        _ => Refusal::Query(rejection.body_text()),
    })?;
    if body.len() > max { Err(Refusal::TooLarge { max }) } else { Ok(body) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_header_of_another_scheme_is_taken_for_a_token() {
        let found = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(found("Bearer abc"), Some("abc".to_owned()));
        assert_eq!(found("bearer abc"), Some("abc".to_owned()));
        assert_eq!((found("Basic abc"), found("Bearer "), found("abc")), (None, None, None));
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn a_part_of_the_api_key_is_enough() {
        assert!(is_api_key(Some("secret"), "secret"));
        for wrong in ["secre", "secrets", "", "Secret"] {
            assert!(!is_api_key(Some("secret"), wrong), "{wrong}");
        }
        assert!(!is_api_key(None, ""));
    }
}
