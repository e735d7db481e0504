//! A node's disk from the outside: backups of it, and what happens when it is full or fails.

mod backup;
mod disk;
mod full;
mod object_server;
mod s3;
mod support;
