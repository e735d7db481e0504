//! GUUIDs, limits, headers, frames, tickets and sync messages: every byte that crosses the network.
