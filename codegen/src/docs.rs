//! `docs/operations.md`: the contract as a table for people.

use std::fmt::Write;

use heck::ToKebabCase;

use crate::contract::Contract;

pub fn emit(contract: &Contract) -> String {
    let mut out = String::from(
        "# Operations\n\n\
         Generated from `proto/proton/v1/proton.proto`; a test fails when it is stale. `just docs` renews it.\n\n\
         - **Repeat**: what makes a repeat of the call safe. *read*: it changes nothing; *client-token*: the token makes the\n  \
         repeat return the first outcome; *natural-create*: the same name with the same parameters returns the original;\n  \
         *delete*: deleting what is absent succeeds; *async-delete*: likewise, and detail while it is being deleted; *model*:\n  \
         marked idempotent in AWS's model without more said; *none*: a repeat may act twice.\n\
         - **Cache**: how long an answer may be kept. *state*: while the resource is settled; *definition*: long; *none*: never.\n\
         - **Touches**: the kinds of resources whose kept answers the call makes stale.\n\n\
         | # | Operation | What it does | Resource | Named by | Repeat | Cache | Pages | Touches |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for (index, o) in contract.operations.iter().enumerate() {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            index + 1,
            o.name,
            o.summary,
            o.resource,
            o.named_by.join(", "),
            o.idempotency.to_kebab_case(),
            o.cache.to_kebab_case(),
            if o.paginated { "yes" } else { "" },
            o.touches.join(", ")
        );
    }
    out
}
