//! Editing traces: who typed what, where, and having seen what.
//!
//! Reads the JSON format of github.com/josephg/editing-traces, plain or gzipped: sequential traces (one
//! author, each transaction follows the last) and concurrent ones (several agents; each transaction names
//! its parents). Positions and lengths count Unicode code points.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use crate::times;

/// The largest trace that is read, unpacked.
pub const TRACE_BYTES_MAX: u64 = 1 << 30;
/// The most agents of a trace: each is a client of its own.
pub const AGENTS_MAX: usize = 64;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A recorded editing session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    /// What the document holds at the end, where the recording says so.
    pub end: Option<String>,
    /// How many agents wrote it.
    pub agents: usize,
    /// In an order in which every transaction comes after its parents.
    pub transactions: Vec<Transaction>,
    /// When each transaction was made, since the first; empty where the recording does not say.
    pub times: Vec<Duration>,
}

/// Edits that were made as one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Transaction {
    /// Who made them, from zero.
    pub agent: usize,
    /// The latest transactions that the agent had seen, by index.
    pub parents: Vec<usize>,
    /// In order; each position is relative to the text after the patch before.
    pub patches: Vec<Patch>,
}

/// One edit of a text. Positions and lengths count Unicode code points.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Patch {
    /// Where.
    pub position: usize,
    /// How much goes from there.
    pub deleted: usize,
    /// What comes in its place.
    pub inserted: String,
}

/// Why a trace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file could not be opened or read.
    #[error("cannot read the trace {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is named like a gzip file or begins like one, and is none.
    #[error("the trace {} is not gzip: {reason}; give a .json.gz or a plain .json file", path.display())]
    NotGzip {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It unpacks to more than [`TRACE_BYTES_MAX`].
    #[error("the trace {} unpacks to more than {TRACE_BYTES_MAX} bytes, the most that is read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is not JSON, or not of a trace's shape.
    #[error("the trace {} is malformed: {error}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What, with line and column.
        error: serde_json::Error,
    },
    /// Its parts contradict each other.
    #[error("the trace {} is malformed: {reason}", path.display())]
    Inconsistent {
        /// The file.
        path: PathBuf,
        /// What is wrong in which transaction.
        reason: String,
    },
}

impl Trace {
    /// Reads a trace from `path`, plain JSON or gzipped.
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        let text = read_text(path)?;
        let recorded: Recording = serde_json::from_slice(&text)
            .map_err(|error| TraceError::Malformed { path: path.to_owned(), error })?;
        Self::check(recorded).map_err(|reason| TraceError::Inconsistent { path: path.to_owned(), reason })
    }

    fn check(recorded: Recording) -> Result<Self, String> {
        let agents = recorded.agents.unwrap_or(1);
        if agents == 0 || agents > AGENTS_MAX {
            return Err(format!("numAgents is {agents}; 1 to {AGENTS_MAX} can be replayed"));
        }
        if recorded.transactions.is_empty() {
            return Err("txns is empty; there is nothing to replay".to_owned());
        }
        let mut transactions = Vec::with_capacity(recorded.transactions.len() + 1);
        // What the document starts with is the first agent's first edit, which everyone has seen.
        if !recorded.start.is_empty() {
            let patch = Patch { position: 0, deleted: 0, inserted: recorded.start };
            transactions.push(Transaction { patches: vec![patch], ..Transaction::default() });
        }
        let shift = transactions.len();
        let times = times::since_the_first(
            recorded.transactions.iter().map(|transaction| transaction.time.as_deref()),
            shift,
        );
        for (index, recorded) in recorded.transactions.into_iter().enumerate() {
            let transaction = recorded.check(index, agents, shift)?;
            transactions.push(transaction);
        }
        Ok(Self { end: recorded.end, agents, transactions, times })
    }

    /// Whether every transaction follows the one before, and nothing else.
    #[must_use]
    pub fn is_linear(&self) -> bool {
        self.transactions
            .iter()
            .enumerate()
            .all(|(index, transaction)| transaction.parents.iter().copied().eq(index.checked_sub(1)))
    }

    /// Whether every code point of the trace is one UTF-16 unit, so that positions need no conversion.
    #[must_use]
    pub fn is_within_bmp(&self) -> bool {
        self.transactions
            .iter()
            .flat_map(|transaction| &transaction.patches)
            .all(|patch| patch.inserted.is_ascii() || patch.inserted.chars().all(|c| c.len_utf16() == 1))
    }
}

/// A trace as the file spells it.
#[derive(Deserialize)]
struct Recording {
    #[serde(rename = "startContent", default)]
    start: String,
    #[serde(rename = "endContent")]
    end: Option<String>,
    #[serde(rename = "numAgents")]
    agents: Option<usize>,
    #[serde(rename = "txns")]
    transactions: Vec<RecordedTransaction>,
}

#[derive(Deserialize)]
struct RecordedTransaction {
    agent: Option<usize>,
    parents: Option<Vec<usize>>,
    time: Option<String>,
    patches: Vec<(usize, usize, String)>,
}

impl RecordedTransaction {
    /// `index` is its place in the file, `shift` how many transactions were put before the first.
    fn check(self, index: usize, agents: usize, shift: usize) -> Result<Transaction, String> {
        let agent = self.agent.unwrap_or(0);
        if agent >= agents {
            return Err(format!("transaction {index} is by agent {agent}, and there are {agents}"));
        }
        if agents > 1 && self.parents.is_none() {
            return Err(format!("transaction {index} names no parents, and there are {agents} agents"));
        }
        let roots = (shift > 0).then_some(0);
        let parents = match self.parents {
            None => (index + shift).checked_sub(1).into_iter().collect(),
            Some(parents) if parents.is_empty() => roots.into_iter().collect(),
            Some(parents) => {
                if let Some(later) = parents.iter().find(|&&parent| parent >= index) {
                    return Err(format!(
                        "transaction {index} names {later} as a parent, which is not before it"
                    ));
                }
                parents.into_iter().map(|parent| parent + shift).collect()
            }
        };
        let patches = self
            .patches
            .into_iter()
            .map(|(position, deleted, inserted)| Patch { position, deleted, inserted })
            .collect();
        Ok(Transaction { agent, parents, patches })
    }
}

fn read_text(path: &Path) -> Result<Vec<u8>, TraceError> {
    let unreadable = |error| TraceError::Unreadable { path: path.to_owned(), error };
    let not_gzip = |reason: String| TraceError::NotGzip { path: path.to_owned(), reason };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut packed = Vec::new();
    file.by_ref().take(TRACE_BYTES_MAX + 1).read_to_end(&mut packed).map_err(unreadable)?;
    let text = if packed.starts_with(&GZIP_MAGIC) {
        let mut text = Vec::new();
        MultiGzDecoder::new(packed.as_slice())
            .take(TRACE_BYTES_MAX + 1)
            .read_to_end(&mut text)
            .map_err(|error| not_gzip(format!("it breaks off or is damaged ({error})")))?;
        text
    } else if path.extension().is_some_and(|extension| extension == "gz") {
        return Err(not_gzip("it does not begin with the gzip magic bytes 1f 8b".to_owned()));
    } else {
        packed
    };
    if text.len() as u64 > TRACE_BYTES_MAX {
        return Err(TraceError::TooLarge { path: path.to_owned() });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const CONCURRENT: &str = r#"{"kind":"concurrent","endContent":"ab","numAgents":2,"txns":[
        {"parents":[],"numChildren":2,"agent":0,"time":"x","patches":[[0,0,"a"]]},
        {"parents":[0],"numChildren":0,"agent":1,"time":"x","patches":[[1,0,"b"]]}]}"#;

    fn parse(json: &str) -> Result<Trace, String> {
        Trace::check(serde_json::from_str(json).map_err(|error| error.to_string())?)
    }

    fn read(name: &str, bytes: &[u8]) -> Result<Trace, TraceError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Trace::read(&path)
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_sequential_transaction_does_not_follow_the_one_before() {
        let json = r#"{"startContent":"x","endContent":"xyz",
            "txns":[{"time":"t","patches":[[1,0,"y"]]},{"time":"t","patches":[[2,0,"z"]]}]}"#;
        let trace = parse(json).unwrap();
        assert_eq!(trace.agents, 1);
        let parents: Vec<_> =
            trace.transactions.iter().map(|transaction| transaction.parents.clone()).collect();
        assert_eq!(parents, [vec![], vec![0], vec![1]]);
        assert_eq!(trace.transactions[0].patches[0].inserted, "x");
    }

    #[test]
    fn an_agent_or_a_parent_of_a_concurrent_trace_is_lost() {
        let trace = parse(CONCURRENT).unwrap();
        assert_eq!((trace.agents, trace.transactions[1].agent), (2, 1));
        assert_eq!(trace.transactions[1].parents, [0]);
        assert_eq!(trace.end.as_deref(), Some("ab"));
    }

    #[test]
    fn a_parent_that_comes_later_is_taken() {
        let error = parse(&CONCURRENT.replace("\"parents\":[0]", "\"parents\":[1]")).unwrap_err();
        assert!(error.contains("transaction 1 names 1 as a parent"), "{error}");
    }

    #[test]
    fn an_agent_that_does_not_exist_is_taken() {
        let error = parse(&CONCURRENT.replace("\"agent\":1", "\"agent\":2")).unwrap_err();
        assert!(error.contains("by agent 2"), "{error}");
    }

    #[test]
    fn a_concurrent_trace_without_parents_is_taken() {
        let error = parse(&CONCURRENT.replace("\"parents\":[0],", "")).unwrap_err();
        assert!(error.contains("names no parents"), "{error}");
    }

    #[test]
    fn an_empty_trace_is_replayed() {
        assert!(parse(r#"{"txns":[]}"#).unwrap_err().contains("nothing to replay"));
    }

    #[test]
    fn a_gzipped_and_a_plain_file_differ() {
        let plain = read("trace.json", CONCURRENT.as_bytes()).unwrap();
        assert_eq!(read("trace.json.gz", &gzip(CONCURRENT)).unwrap(), plain);
        assert_eq!(read("trace", &gzip(CONCURRENT)).unwrap(), plain);
    }

    #[test]
    fn a_bad_file_is_not_named() {
        let error = Trace::read(Path::new("/nowhere/trace.json")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/trace.json"), "{error}");
        let error = read("trace.json.gz", b"{}").unwrap_err().to_string();
        assert!(error.contains("1f 8b") && error.contains("trace.json.gz"), "{error}");
        let torn = gzip(CONCURRENT);
        let error = read("trace.json.gz", &torn[..torn.len() / 2]).unwrap_err().to_string();
        assert!(error.contains("breaks off"), "{error}");
    }

    #[test]
    fn a_malformed_file_is_reported_without_its_place() {
        let error =
            read("trace.json", b"{\"txns\":[\n{\"patches\":[[0,\"x\",1]]}]}").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
        let error = read("trace.json", b"{}").unwrap_err().to_string();
        assert!(error.contains("txns"), "{error}");
    }
}
