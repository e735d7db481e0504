//! The client library: connect, join, apply, subscribe, presence, reconnect and resume.
