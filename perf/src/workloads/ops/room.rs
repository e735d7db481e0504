//! The clients of a load, with their documents open.

use std::rc::Rc;

use aetherflow_client::{Client, ControlPlane, Document, DocumentEvents, DocumentWriter};
use tokio::task::JoinSet;

use super::edits::{Edits, Shape};
use crate::error::Result;
use crate::product::clients;

/// Documents that are being opened at the same time.
const OPENING_MAX: usize = 256;

/// Who is there.
pub(crate) struct Room {
    /// All clients.
    pub(crate) clients: Vec<Client>,
    /// The writers of each document.
    writers: Vec<Vec<Document>>,
    /// The readers of each document.
    readers: Vec<Vec<Document>>,
}

impl Room {
    /// Connects all clients and opens all documents, which nobody had before.
    pub(crate) async fn open(tickets: &ControlPlane, shape: Shape) -> Result<Self> {
        let clients = clients::connect_astray(tickets, shape.clients, shape.wrong_shard_share).await?;
        let documents = clients::fresh_documents(&clients);
        let mut room = Self { clients, writers: Vec::new(), readers: Vec::new() };
        let mut opened = 0;
        for document in 0..shape.documents {
            let id = format!("{documents}/{document}");
            let member = |at: usize| &room.clients[(document + at) % shape.clients];
            let joined = |from: usize, count: usize| -> Result<Vec<Document>> {
                (from..from + count).map(|at| clients::join(member(at), &id, true)).collect()
            };
            let (writers, readers) = (joined(0, shape.writers)?, joined(shape.writers, shape.readers)?);
            room.writers.push(writers);
            room.readers.push(readers);
            if document - opened == OPENING_MAX {
                room.wait(opened, document + 1).await?;
                opened = document + 1;
            }
        }
        room.wait(opened, shape.documents).await?;
        Ok(room)
    }

    async fn wait(&mut self, from: usize, to: usize) -> Result<()> {
        for at in from..to {
            for document in self.writers[at].iter_mut().chain(&mut self.readers[at]) {
                clients::opened(document).await?;
            }
        }
        Ok(())
    }

    /// Lets everybody listen, each in a task; returns the writers of each document.
    pub(crate) fn listen(
        &mut self,
        edits: &Rc<Edits>,
        tasks: &mut JoinSet<Result<()>>,
    ) -> Vec<Vec<DocumentWriter>> {
        let mut keyboards = Vec::with_capacity(self.writers.len());
        for (document, writers) in std::mem::take(&mut self.writers).into_iter().enumerate() {
            let mut of_document = Vec::with_capacity(writers.len());
            for (author, writer) in writers.into_iter().enumerate() {
                let (keyboard, events) = writer.split();
                of_document.push(keyboard);
                tasks.spawn_local(author_listens(Rc::clone(edits), document, author, events));
            }
            keyboards.push(of_document);
        }
        for (document, readers) in std::mem::take(&mut self.readers).into_iter().enumerate() {
            for (reader, joined) in readers.into_iter().enumerate() {
                let (_, events) = joined.split();
                tasks.spawn_local(reader_listens(Rc::clone(edits), document, reader, events));
            }
        }
        keyboards
    }
}

async fn author_listens(
    edits: Rc<Edits>,
    document: usize,
    author: usize,
    mut events: DocumentEvents,
) -> Result<()> {
    let mut batch = Vec::new();
    while events.next_events(&mut batch).await {
        edits.handle_author(document, author, batch.drain(..))?;
    }
    Ok(())
}

async fn reader_listens(
    edits: Rc<Edits>,
    document: usize,
    reader: usize,
    mut events: DocumentEvents,
) -> Result<()> {
    let mut batch = Vec::new();
    while events.next_events(&mut batch).await {
        edits.handle_reader(document, reader, batch.drain(..))?;
    }
    Ok(())
}
