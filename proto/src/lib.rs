//! The contract between control plane, nodes, gateways and native clients, generated from the
//! `.proto` files beside it. This crate holds no logic: whoever needs meaning added to a message adds
//! it on their own side.
#![allow(missing_docs, clippy::pedantic, clippy::large_enum_variant)]

/// `aetherflow.v1`, the only version so far.
pub mod v1 {
    tonic::include_proto!("aetherflow.v1");
}
