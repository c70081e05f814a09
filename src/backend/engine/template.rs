//! Templates as their authors write them: bundles, input schemas, specs and the YAML they are in.
//!
//! Everything here works on bytes and text it is given and never touches a disk or a network.

pub mod bundle;
pub mod schema;
pub mod spec;
pub mod yaml;
