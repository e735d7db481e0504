//! What waits to be sent on one socket, within a budget of bytes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use crate::config::OUTBOX_BYTES_MAX;
use crate::refusal::Refusal;

/// What a waiting frame costs beside its bytes.
const FRAME_OVERHEAD_BYTES: usize = 64;

#[derive(Debug, Default)]
struct Shared {
    queued_bytes: AtomicUsize,
    catching_up: AtomicBool,
    end: Mutex<Option<Refusal>>,
    ended: Notify,
}

/// The end that frames are put into. Never waits: a socket that does not keep up is closed.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    frames: mpsc::UnboundedSender<Waiting>,
    shared: Arc<Shared>,
}

/// The end that the socket's task takes frames from.
#[derive(Debug)]
pub(crate) struct Outgoing {
    frames: mpsc::UnboundedReceiver<Waiting>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Waiting {
    frame: Bytes,
    /// Zero for the state of a document, which may be larger than the budget.
    cost_bytes: usize,
}

/// Both ends.
pub(crate) fn outbox() -> (Outbox, Outgoing) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared::default());
    (Outbox { frames: sender, shared: Arc::clone(&shared) }, Outgoing { frames: receiver, shared })
}

impl Outbox {
    /// Queues a frame; false: the socket is over, or ends now because too much waits.
    pub(crate) fn send(&self, frame: Bytes) -> bool {
        let cost_bytes = frame.len() + FRAME_OVERHEAD_BYTES;
        if self.shared.queued_bytes.fetch_add(cost_bytes, Relaxed) + cost_bytes > OUTBOX_BYTES_MAX {
            self.end(Refusal::SlowReader { max: OUTBOX_BYTES_MAX });
            return false;
        }
        self.frames.send(Waiting { frame, cost_bytes }).is_ok()
    }

    /// Queues the document's state, whatever its size, unless one is under way already.
    pub(crate) fn send_state(&self, frame: Bytes) -> bool {
        if self.shared.catching_up.swap(true, Relaxed) {
            return self.send(frame);
        }
        self.frames.send(Waiting { frame, cost_bytes: 0 }).is_ok()
    }

    /// Ends the socket, before what still waits. The first reason counts.
    pub(crate) fn end(&self, why: Refusal) {
        let mut end = self.shared.end.lock().unwrap_or_else(PoisonError::into_inner);
        end.get_or_insert(why);
        drop(end);
        self.shared.ended.notify_one();
    }
}

impl Outgoing {
    /// Waits for the next frame, or for the end and its reason. None: nobody will send one.
    pub(crate) async fn next_or_end(&mut self) -> Result<Option<Bytes>, Refusal> {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            biased;
            why = shared.ended() => Err(why),
            frame = self.next_frame() => Ok(frame),
        }
    }

    async fn next_frame(&mut self) -> Option<Bytes> {
        let Waiting { frame, cost_bytes } = self.frames.recv().await?;
        if cost_bytes == 0 {
            self.shared.catching_up.store(false, Relaxed);
        }
        self.shared.queued_bytes.fetch_sub(cost_bytes, Relaxed);
        Some(frame)
    }

    /// Waits until the socket is to end, and says why.
    pub(crate) async fn ended(&self) -> Refusal {
        self.shared.ended().await
    }
}

impl Shared {
    async fn ended(&self) -> Refusal {
        loop {
            let ended = self.ended.notified();
            if let Some(why) = self.end.lock().unwrap_or_else(PoisonError::into_inner).clone() {
                return why;
            }
            ended.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_takes_memory_without_end() {
        let (outbox, mut outgoing) = outbox();
        let frame = Bytes::from(vec![0; 1 << 20]);
        let taken = (0..100).take_while(|_| outbox.send(frame.clone())).count();
        assert_eq!(taken, OUTBOX_BYTES_MAX / (frame.len() + FRAME_OVERHEAD_BYTES));
        assert!(matches!(outgoing.ended().await, Refusal::SlowReader { .. }));
        assert_eq!(outgoing.next_frame().await, Some(frame));
    }

    #[tokio::test]
    async fn a_document_larger_than_the_budget_cannot_be_opened() {
        let (outbox, mut outgoing) = outbox();
        let state = Bytes::from(vec![0; OUTBOX_BYTES_MAX * 2]);
        assert!(outbox.send_state(state.clone()) && outbox.send(Bytes::from_static(b"op")));
        // A second one while the first is under way counts.
        assert!(!outbox.send_state(state.clone()));
        assert_eq!(outgoing.next_frame().await, Some(state));
    }
}
