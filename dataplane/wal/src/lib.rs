//! The log: record format, group commit, recovery, and the Storage trait.
