//! A node's disk from the outside: backups of it, and what happens when it is full or fails.

mod backup;
mod disk;
mod support;
