//! The control plane: sessions, tickets, node registry, partition map, config push.
