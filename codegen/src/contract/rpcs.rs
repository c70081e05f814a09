//! Reading what callers can call, of all our services.

use prost_reflect::DescriptorPool;

use super::operations::level;
use super::{Rpc, SERVICE};

/// All rpcs of the gateway's own packages, those of the operations first; each service's in the
/// order of the contract.
pub fn read(pool: &DescriptorPool) -> Vec<Rpc> {
    let mut services: Vec<_> = pool
        .services()
        .filter(|service| service.package_name().starts_with("proton."))
        .collect();
    services.sort_by_key(|service| {
        (
            service.full_name() != SERVICE,
            service.full_name().to_owned(),
        )
    });
    services
        .iter()
        .flat_map(|service| service.methods())
        .map(|method| Rpc {
            service: method.parent_service().full_name().to_owned(),
            method: method.name().to_owned(),
            reads: level(&method) == "NoSideEffects",
            // A wait has a policy that says what it waits for.
            waits: super::options::option(pool, &method.options(), "wait").is_some(),
            of_principals: method.input().get_field_by_name("principal").is_some(),
        })
        .collect()
}
