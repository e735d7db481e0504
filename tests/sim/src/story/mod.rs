//! Stories: short scripts in words that one client and one node live through in virtual time, and what must come of it.
//!
//! They are in `tests/stories/*.txt`. One statement a line; `#` begins a comment; times are counted from the start and
//! written `10ms`, `1.5s` or `250us`; WHO is `client` or `node`. As in traces, everything counts from 0: datagrams by their
//! sender, messages by sender and channel. What is done comes before what arrives at the same instant. The path carries no
//! marks of congestion, and ECN is off.
//!
//! | line | meaning |
//! |---|---|
//! | `network delay=10ms …` | the path, in netem's words; the default carries everything at once |
//! | `set NAME VALUE` | a setting of both ends: `fec off`, `idle_timeout 5s`, `keep_alive off` |
//! | `until 2s` | the end; default 5 s |
//! | `at T client connects` | what it sends at the same instant rides in its first packet |
//! | `at T WHO sends CHANNEL N bytes` | then, if wanted: `K times every T` |
//! | `at T WHO closes with CODE`, `at T WHO finishes with CODE within T` | at once, or once all is acknowledged |
//! | `at T NAT rebinds` | another address for the client, which does not notice |
//! | `at T client moves` | another address, and the client knows |
//! | `at T client updates keys`, `at T client rotates its id` | |
//! | `at T node restarts` | without its connections; its ticket and reset keys stay |
//! | `at T network …` | another path from then on |
//! | `at T N strangers knock` | so many first packets, with good tickets, of clients that never answer, reach the node |
//! | `drop WHO datagram N` | its N-th datagram does not arrive |
//! | `drop the next WHO datagram` | then, if wanted: `with WORDS`. With `at T` before it: the next from then on |
//! | `expect WHO delivers CHANNEL N` | WHO's application is given that message |
//! | `expect WHO sends WORDS` | a datagram with these words is sent |
//! | `expect WHO connects`, `expect WHO closed with CODE` | |
//! | `expect WHO never …` | any of the above does not happen |
//! | `expect counter WHERE.NAME = N` | at the end; also `>=` and `<=`. WHERE is WHO, or `endpoint` |
//!
//! An expectation (except of a counter) may end with `at T` (exactly then), `by T` (then or before) or `from T to T`.
//! WORDS are those in which a trace tells the datagram, in their order: `INITIAL`, `DATA 7`, `PING`, `sync 1`,
//! `PATH_CHALLENGE`; a packet that is repeated byte for byte is known by its type alone. A drop that finds nothing to
//! drop fails the story as well: it tells of something that did not happen.

mod expect;
mod parse;
mod run;

use thiserror::Error;

pub use self::run::Telling;

/// Why a story is not true.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{file}:{line}: {what}")]
pub struct StoryFailure {
    /// The story's file.
    pub file: String,
    /// The line that is not true, from 1.
    pub line: usize,
    /// What it says, and what happened instead.
    pub what: String,
}

/// A line, and what is wrong with it.
type Wrong = (usize, String);

/// Lives through a story. The telling is there in any case, unless the text is no story.
///
/// # Errors
/// Every line that is not true, or those that say nothing that is understood.
pub fn run(file: &str, text: &str) -> (Option<Telling>, Result<(), Vec<StoryFailure>>) {
    let failures = |wrong: Vec<Wrong>| -> Vec<StoryFailure> {
        wrong.into_iter().map(|(line, what)| StoryFailure { file: file.to_owned(), line, what }).collect()
    };
    let script = match parse::script(text) {
        Ok(script) => script,
        Err(wrong) => return (None, Err(failures(vec![wrong]))),
    };
    let (telling, mut wrong) = run::live(&script);
    wrong.extend(script.expectations.iter().filter_map(|expected| expected.check(&telling)));
    let result = if wrong.is_empty() { Ok(()) } else { Err(failures(wrong)) };
    (Some(telling), result)
}
