//! Numbers that are looked up whenever somebody asks for them.

/// What they are called, and what they mean.
pub(super) const ALL: [(&str, &str); 8] = [
    (LIMIT_CALLERS, "Callers whose use is remembered."),
    (CACHE_ENTRIES, "Answers that are kept, about."),
    (CACHE_MAX_BYTES, "What the answers that are kept may take."),
    (IDEMPOTENCY_MAX_BYTES, "What the idempotency keys may take."),
    (STORE_BYTES, "The database's file."),
    (
        STORE_WAL_BYTES,
        "What was written since the database's log began anew.",
    ),
    (
        STORE_LOGS,
        "How often the database's log has begun anew: all of it had been copied by a checkpoint.",
    ),
    (STORE_QUEUE, "Mutations that wait for the writer."),
];

pub const LIMIT_CALLERS: &str = "proton_gateway_limit_callers";
pub const CACHE_ENTRIES: &str = "proton_gateway_cache_entries";
pub const CACHE_MAX_BYTES: &str = "proton_gateway_cache_max_bytes";
pub const IDEMPOTENCY_MAX_BYTES: &str = "proton_gateway_idempotency_max_bytes";
pub const STORE_BYTES: &str = "proton_gateway_store_bytes";
pub const STORE_WAL_BYTES: &str = "proton_gateway_store_wal_bytes";
pub const STORE_LOGS: &str = "proton_gateway_store_wal_begun_anew";
pub const STORE_QUEUE: &str = "proton_gateway_store_queue";
