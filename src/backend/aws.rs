//! AWS.
pub mod convert;
pub mod failure;
