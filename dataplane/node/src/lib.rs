//! A node: configuration to plan, start, serve, drain; and its agent thread.
