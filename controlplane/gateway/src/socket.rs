//! One WebSocket in the y-websocket dialect.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::ws::{CloseFrame, Message as Frame, WebSocket};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use wire::{Access, Guuid};

use crate::config::{CLOSE_TIMEOUT, FRAME_BYTES_MAX, KEEP_ALIVE, SESSION_CHECK, SOCKET_SILENCE_MAX};
use crate::documents::{Command, Hub};
use crate::gateway::App;
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Outgoing, outbox};
use crate::presence::SocketId;
use crate::refusal::Refusal;
use crate::replica::{check_state_vector, check_update};
use crate::yproto::{self, AWARENESS_EMPTY, Message, Messages};

/// The longest reason that a close frame carries.
const CLOSE_REASON_BYTES_MAX: usize = 123;

/// A socket that was let in.
pub(crate) struct Admitted {
    pub(crate) document: String,
    pub(crate) session: Option<Guuid>,
    pub(crate) token: Option<String>,
    pub(crate) access: Access,
}

/// Tells a socket why it is not let in. Browsers do not see the status of a failed handshake, so the
/// handshake succeeds and the close code tells.
pub(crate) async fn turn_away(mut socket: WebSocket, why: Refusal) {
    if matches!(why.close_code(), 4401 | 4403) {
        let _ = socket.send(Frame::Binary(yproto::denied(&why.to_string()))).await;
    }
    close(&mut socket, &why).await;
}

/// Serves a socket until either side ends it.
pub(crate) async fn serve(app: Arc<App>, mut socket: WebSocket, admitted: Admitted) {
    let id = app.next_socket_id();
    app.metrics.sockets.fetch_add(1, Relaxed);
    if let Err(why) = converse(&app, &mut socket, &admitted, id).await {
        app.metrics.refused(&why);
        let document = &admitted.document;
        tracing::info!(document, socket = id, session = ?admitted.session, code = why.code(), "socket closed: {why}");
        close(&mut socket, &why).await;
    }
    app.metrics.sockets.fetch_sub(1, Relaxed);
}

async fn close(socket: &mut WebSocket, why: &Refusal) {
    let mut reason = format!("{}: {why}", why.code());
    while reason.len() > CLOSE_REASON_BYTES_MAX {
        reason.pop();
    }
    let frame = CloseFrame { code: why.close_code(), reason: reason.into() };
    let closed = async {
        if socket.send(Frame::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    let _ = timeout(CLOSE_TIMEOUT, closed).await;
}

async fn converse(
    app: &Arc<App>,
    socket: &mut WebSocket,
    admitted: &Admitted,
    id: SocketId,
) -> Result<(), Refusal> {
    let hub = app.documents.hub(&admitted.document)?;
    let (outbox, outgoing) = outbox();
    let revoked = outbox.clone();
    let join = Command::Join { socket: id, session: admitted.session, access: admitted.access, outbox };
    if !hub.send(join).await {
        return Err(gone());
    }
    let mut conversation = Conversation {
        id,
        hub,
        outgoing,
        metrics: Arc::clone(&app.metrics),
        frames_received: 0,
        heard_at: Instant::now(),
        sent_at: Instant::now(),
    };
    let watch = admitted.token.clone().map(|token| watch_session(Arc::clone(app), token, revoked));
    let result = conversation.run(socket, app.draining.subscribe()).await;
    if let Some(watch) = watch {
        watch.abort();
    }
    conversation.hub.send(Command::Leave { socket: id }).await;
    result
}

/// Ends the socket when its session does. A control plane that does not answer ends nothing.
fn watch_session(app: Arc<App>, token: String, outbox: Outbox) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(SESSION_CHECK).await;
            if let Err(why @ Refusal::TokenRefused(_)) = app.control.authenticate(&token).await {
                return outbox.end(why);
            }
        }
    })
}

async fn drained(draining: &mut watch::Receiver<bool>) {
    let _ = draining.wait_for(|draining| *draining).await;
}

fn gone() -> Refusal {
    Refusal::Unavailable("the document was closed".to_owned())
}

struct Conversation {
    id: SocketId,
    hub: Hub,
    outgoing: Outgoing,
    metrics: Arc<Metrics>,
    frames_received: u64,
    heard_at: Instant,
    sent_at: Instant,
}

impl Conversation {
    async fn run(
        &mut self,
        socket: &mut WebSocket,
        mut draining: watch::Receiver<bool>,
    ) -> Result<(), Refusal> {
        let mut keep_alive = interval(KEEP_ALIVE / 2);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                frame = self.outgoing.next_or_end() => {
                    let frame = frame?.ok_or_else(gone)?;
                    if !self.send(socket, Frame::Binary(frame)).await? {
                        return Ok(());
                    }
                }
                received = socket.recv() => {
                    self.heard_at = Instant::now();
                    match received {
                        Some(Ok(frame)) => if !self.handle_frame(frame).await? { return Ok(()) },
                        Some(Err(error)) => return broken(&error),
                        None => return Ok(()),
                    }
                }
                () = drained(&mut draining) => return Err(Refusal::Draining),
                _ = keep_alive.tick() => if !self.keep_alive(socket).await? { return Ok(()) },
            }
        }
    }

    /// False: the socket is gone. A socket that takes nothing can be ended meanwhile.
    async fn send(&mut self, socket: &mut WebSocket, frame: Frame) -> Result<bool, Refusal> {
        let bytes = if let Frame::Binary(frame) = &frame { frame.len() } else { 0 };
        let sent = tokio::select! {
            sent = socket.send(frame) => sent.is_ok(),
            why = self.outgoing.ended() => return Err(why),
        };
        self.sent_at = Instant::now();
        self.metrics.frames_sent.fetch_add(1, Relaxed);
        self.metrics.bytes_sent.fetch_add(bytes as u64, Relaxed);
        Ok(sent)
    }

    async fn keep_alive(&mut self, socket: &mut WebSocket) -> Result<bool, Refusal> {
        if self.heard_at.elapsed() > SOCKET_SILENCE_MAX {
            return Ok(false);
        }
        if self.heard_at.elapsed() > KEEP_ALIVE && !self.send(socket, Frame::Ping(Bytes::new())).await? {
            return Ok(false);
        }
        if self.sent_at.elapsed() > KEEP_ALIVE / 2 {
            return self.send(socket, Frame::Binary(Bytes::from_static(AWARENESS_EMPTY))).await;
        }
        Ok(true)
    }

    /// False: the client has closed the socket.
    async fn handle_frame(&mut self, frame: Frame) -> Result<bool, Refusal> {
        let frame = match frame {
            Frame::Binary(frame) => frame,
            Frame::Text(_) => return Err(Refusal::TextFrame),
            Frame::Close(_) => return Ok(false),
            Frame::Ping(_) | Frame::Pong(_) => return Ok(true),
        };
        if frame.len() > FRAME_BYTES_MAX {
            return Err(Refusal::TooLarge { max: FRAME_BYTES_MAX });
        }
        self.metrics.bytes_received.fetch_add(frame.len() as u64, Relaxed);
        // The provider opens with step 1, and then its own presence.
        let opening = self.frames_received < 2;
        self.frames_received += 1;
        let mut messages = Messages::new(&frame);
        while let Some(message) = messages.next_message().map_err(Refusal::Frame)? {
            self.metrics.messages_received.fetch_add(1, Relaxed);
            let command = self.command(message, opening)?;
            let taken = tokio::select! {
                taken = self.hub.send(command) => taken,
                why = self.outgoing.ended() => return Err(why),
            };
            if !taken {
                return Err(gone());
            }
        }
        Ok(true)
    }

    fn command(&self, message: Message, opening: bool) -> Result<Command, Refusal> {
        let socket = self.id;
        Ok(match message {
            Message::Step1(state_vector) => {
                check_state_vector(&state_vector)?;
                Command::Step1 { socket, state_vector }
            }
            Message::Step2(update) => {
                check_update(&update)?;
                Command::Update { socket, update, may_be_old: true }
            }
            Message::Update(update) => {
                check_update(&update)?;
                Command::Update { socket, update, may_be_old: false }
            }
            Message::Awareness(entries) => Command::Awareness { socket, entries, opening },
            Message::QueryAwareness => Command::QueryAwareness { socket },
        })
    }
}

/// An error of the WebSocket layer: over the limit, against the protocol, or just gone.
fn broken(error: &axum::Error) -> Result<(), Refusal> {
    let text = error.to_string();
    if text.contains("too long") || text.contains("too big") {
        return Err(Refusal::TooLarge { max: FRAME_BYTES_MAX });
    }
    if text.contains("rotocol") && !text.contains("without closing handshake") {
        return Err(Refusal::Socket(text));
    }
    Ok(())
}
