//! What answers a call once the pipeline has let it through.

pub mod aws;
pub mod engine;
