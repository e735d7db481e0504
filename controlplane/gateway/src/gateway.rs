//! The HTTP server: routes, admission of sockets, start and shutdown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::serve::ListenerExt;
use serde::Deserialize;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wire::Access;

use crate::assets;
use crate::config::{
    DRAIN_TIMEOUT, FRAME_BYTES_MAX, FRAME_BYTES_READ_MAX, GatewayConfig, SESSION_BODY_BYTES_MAX, SOCKETS_MAX,
};
use crate::control::ControlApi;
use crate::documents::{Documents, check_document_id};
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::rest::{self, bearer, principal};
use crate::socket::{self, Admitted};
use crate::upstream::Upstream;

/// Why a gateway did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The HTTP socket could not be opened.
    #[error("gateway cannot listen on {address}: {source}; choose another address")]
    Listen {
        /// The address as configured.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The control plane's URL or key is of no use.
    #[error("gateway: control plane at {url}: {why}")]
    Control {
        /// The URL as configured.
        url: String,
        /// What is wrong.
        why: String,
    },
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: GatewayConfig,
    pub(crate) control: ControlApi,
    pub(crate) documents: Arc<Documents>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) draining: watch::Sender<bool>,
    upstream: Arc<Upstream>,
    sockets: AtomicU64,
}

impl App {
    /// Counts a refusal on its way out.
    pub(crate) fn refuse(&self, why: Refusal) -> Refusal {
        self.metrics.refused(&why);
        why
    }

    pub(crate) fn next_socket_id(&self) -> u64 {
        self.sockets.fetch_add(1, Relaxed)
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    app: Arc<App>,
    serving: JoinHandle<()>,
}

impl Gateway {
    /// Opens the HTTP socket and serves in tasks of the current tokio runtime. Control plane and node need
    /// not be there yet.
    pub async fn start(config: GatewayConfig) -> Result<Self, StartError> {
        let address = config.listen;
        let listen = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let local = listener.local_addr().map_err(listen)?;
        let url = config.control_url.clone();
        let control = ControlApi::new(&url, config.api_key())
            .map_err(|why| StartError::Control { url: url.clone(), why })?;
        let upstream = Upstream::new(url, config.api_key().map(str::to_owned), config.transport.clone());
        let upstream = Arc::new(upstream);
        let metrics = Arc::new(Metrics::default());
        let documents = Documents::new(Arc::clone(&upstream), Arc::clone(&metrics));
        let (draining, mut drained) = watch::channel(false);
        let sockets = AtomicU64::new(1);
        let app = Arc::new(App { config, control, documents, metrics, draining, upstream, sockets });
        let router = router(Arc::clone(&app));
        let listener = listener.tap_io(|tcp| {
            let _ = tcp.set_nodelay(true);
        });
        let serving = tokio::spawn(async move {
            let shutdown = async move { drop(drained.wait_for(|draining| *draining).await) };
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(shutdown).await {
                tracing::error!("gateway: {error}");
            }
        });
        Ok(Self { address: local, app, serving })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the sockets (1012: they connect again), waits until all ops are durable, and ends. False:
    /// some ops were not durable in time; their senders still have them.
    pub async fn shutdown(self) -> bool {
        self.app.draining.send_replace(true);
        let durable = self.app.upstream.close(DRAIN_TIMEOUT).await;
        let stop = self.serving.abort_handle();
        if tokio::time::timeout(DRAIN_TIMEOUT, self.serving).await.is_err() {
            stop.abort();
        }
        durable
    }
}

fn router(app: Arc<App>) -> Router {
    let sessions = Router::new()
        .route("/v1/sessions", post(rest::sessions::create))
        .route("/v1/sessions/{id}", get(rest::sessions::get).delete(rest::sessions::revoke))
        .layer(DefaultBodyLimit::max(SESSION_BODY_BYTES_MAX));
    let documents = Router::new()
        .route("/v1/documents/{*id}", {
            get(rest::documents::read).post(rest::documents::apply).delete(rest::history::delete)
        })
        .layer(DefaultBodyLimit::max(FRAME_BYTES_MAX));
    Router::new()
        .merge(sessions)
        .merge(documents)
        .route("/y/{*document}", any(admit))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .merge(assets::router())
        .fallback(|State(app): State<Arc<App>>| async move { app.refuse(Refusal::NotFound("page")) })
        .with_state(app)
}

/// `GET /readyz`: whether documents can be opened.
async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, Refusal> {
    if *app.draining.borrow() {
        return Err(Refusal::Draining);
    }
    app.upstream.ready().await.map(|()| "ready\n")
}

/// `GET /metrics`.
async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let mut text = app.metrics.render();
    text.extend(app.config.metrics.as_ref().map(|more| more()));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

#[derive(Deserialize, Debug)]
struct SocketParameters {
    token: Option<String>,
}

/// `GET /y/{document}`: a socket in the y-websocket dialect. The document's id may hold slashes, and is
/// percent-decoded.
async fn admit(
    State(app): State<Arc<App>>,
    Path(document): Path<String>,
    Query(parameters): Query<SocketParameters>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade.max_message_size(FRAME_BYTES_READ_MAX).max_frame_size(FRAME_BYTES_READ_MAX),
        Err(rejection) => {
            let why = format!("connect with a WebSocket: {}", rejection.body_text());
            return (StatusCode::UPGRADE_REQUIRED, app.refuse(Refusal::Query(why))).into_response();
        }
    };
    let token = bearer(&headers).map(str::to_owned).or(parameters.token);
    match admitted(&app, document, token).await {
        Ok(admitted) => upgrade.on_upgrade(move |socket| socket::serve(app, socket, admitted)),
        Err(why) => {
            let why = app.refuse(why);
            upgrade.on_upgrade(move |socket| socket::turn_away(socket, why))
        }
    }
}

async fn admitted(app: &Arc<App>, document: String, token: Option<String>) -> Result<Admitted, Refusal> {
    if *app.draining.borrow() {
        return Err(Refusal::Draining);
    }
    if app.metrics.sockets.load(Relaxed) >= SOCKETS_MAX as u64 {
        return Err(Refusal::Limit { what: "sockets", limit: SOCKETS_MAX });
    }
    check_document_id(&document)?;
    let principal = principal(app, token.as_deref()).await?;
    let access = principal.require(&document, Access::Presence)?;
    // The API key is no session that could be revoked.
    let token = token.filter(|_| principal.session.is_some());
    Ok(Admitted { document, session: principal.session, token, access })
}
