//! The playground page, of `web/src` and the bundle that `web/build.sh` makes, embedded, so that it works without a network.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::gateway::App;

/// Nothing is loaded from elsewhere, and the page talks to its own origin alone.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'";

const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

fn asset(content_type: &'static str, body: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, body)
}

/// The page's routes.
pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(|| async { asset(HTML, include_str!("../web/src/index.html")) }))
        .route("/playground.js", get(|| async { asset(JAVASCRIPT, include_str!("../assets/playground.js")) }))
        .route("/playground.css", get(|| async { asset(CSS, include_str!("../web/src/playground.css")) }))
        .route("/licences.txt", get(|| async { asset(TEXT, include_str!("../assets/licences.txt")) }))
}
