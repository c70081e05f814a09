//! The embedded, durable, Proton-compatible control plane.

pub mod store;
