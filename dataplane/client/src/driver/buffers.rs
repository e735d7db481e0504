//! Memory that one client needs only while it works: all clients of a thread share it, so that thousands of them
//! take no more than one, and what one has left in the cache serves the next.

use std::cell::Cell;

use super::socket::{BATCH_BYTES_MAX, ReceiveBuffers};

/// Where datagrams are received, and put together; empty by default.
#[derive(Default)]
pub(super) struct Buffers {
    pub(super) receive: ReceiveBuffers,
    pub(super) send: Vec<u8>,
}

thread_local! {
    /// Those of the thread, while no client works.
    static IDLE: Cell<Option<Buffers>> = const { Cell::new(None) };
}

impl Buffers {
    /// The thread's buffers; new ones when they are lent.
    pub(super) fn lend() -> Self {
        let make = || Self { receive: ReceiveBuffers::new(), send: vec![0; BATCH_BYTES_MAX] };
        IDLE.take().unwrap_or_else(make)
    }

    /// Gives them back to the thread that the client works on now.
    pub(super) fn give_back(self) {
        IDLE.set(Some(self));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_of_a_thread_has_memory_of_its_own() {
        let buffers = Buffers::lend();
        let first = buffers.send.as_ptr();
        let other = Buffers::lend();
        assert_ne!(other.send.as_ptr(), first, "two work in the same memory");
        buffers.give_back();
        assert_eq!(Buffers::lend().send.as_ptr(), first);
    }
}
