//! WebSocket and REST for browsers and Yjs editors.
