//! What writers say. Each op tells its document, writer and number in plain text, so that whoever finds it can tell whether it
//! is as it was sent.

use bytes::Bytes;
use netem::Random;
use yrs::{Doc, Text, Transact};

/// The name of a Yjs document's text.
pub(crate) const TEXT: &str = "chaos";
/// Ends every op's words.
const END: char = '\n';

/// Names an op of a document.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct OpName {
    /// Counts from 1.
    pub(crate) writer: u32,
    /// Of this writer in this document, from 0.
    pub(crate) number: u32,
}

/// How long the ops of a document are, bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) min: usize,
    pub(crate) max: usize,
}

/// The words of an op: the same for everybody who asks.
pub(crate) fn words(document: u64, name: OpName, sizes: Sizes) -> String {
    let mut random = Random::stream(document, u64::from(name.writer) << 32 | u64::from(name.number));
    let filler = sizes.min + random.below((sizes.max - sizes.min + 1) as u64) as usize;
    let mut words = format!("{}.{}.", name.writer, name.number);
    while words.len() < filler {
        words.push(char::from(b'a' + random.below(26) as u8));
    }
    words.push(END);
    words
}

/// Reads the name of an op out of its words, which must be those that were sent.
pub(crate) fn read(document: u64, found: &str, sizes: Sizes) -> Result<OpName, String> {
    let shown = || found.chars().take(40).collect::<String>();
    let mut parts = found.splitn(3, '.');
    let mut number = || parts.next().and_then(|part| part.parse().ok());
    let (Some(writer), Some(number)) = (number(), number()) else {
        return Err(format!("words that nobody has said: {:?}", shown()));
    };
    let name = OpName { writer, number };
    if words(document, name, sizes) != found {
        return Err(format!("op {number} of writer {writer} is not as it was sent: {:?}", shown()));
    }
    Ok(name)
}

/// The ops in a text.
pub(crate) fn read_all(document: u64, text: &str, sizes: Sizes) -> Result<Vec<OpName>, String> {
    text.split_inclusive(END).map(|found| read(document, found, sizes)).collect()
}

/// Makes the updates of one writer of a Yjs document, who types behind its own words.
pub(crate) struct Typist {
    doc: Doc,
}

impl Typist {
    pub(crate) fn new(writer: u32) -> Self {
        Self { doc: Doc::with_client_id(u64::from(writer)) }
    }

    pub(crate) fn type_words(&self, words: &str) -> Bytes {
        let text = self.doc.get_or_insert_text(TEXT);
        let mut transaction = self.doc.transact_mut();
        text.push(&mut transaction, words);
        transaction.encode_update_v1().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { min: 10, max: 60 };

    #[test]
    fn words_that_were_changed_pass_for_those_that_were_sent() {
        let name = OpName { writer: 3, number: 70 };
        let sent = words(9, name, SIZES);
        assert_eq!(read(9, &sent, SIZES), Ok(name));
        assert!(read(8, &sent, SIZES).is_err(), "of another document");
        for at in 0..sent.len() {
            let mut changed = sent.clone().into_bytes();
            changed[at] ^= 1;
            let changed = String::from_utf8(changed).unwrap();
            assert!(read(9, &changed, SIZES).is_err(), "{changed:?}");
        }
        let doubled = [sent.clone(), sent].concat();
        assert_eq!(read_all(9, &doubled, SIZES), Ok(vec![name, name]));
    }
}
