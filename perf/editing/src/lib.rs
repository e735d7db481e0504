//! Editing to replay: real traces, a typing model, and the Yjs updates they make.
