//! Reading waits, and refusing policies that nothing could follow.

use prost_reflect::{DescriptorPool, MethodDescriptor, Value};

use super::fault::{ContractError, fault, place_of_method};
use super::options::{choice, get, option, text};
use super::{Accepted, Operation, PACKAGE, Wait};

/// All waits, in the order of the contract; none where the service is missing.
pub fn read(pool: &DescriptorPool, operations: &[Operation]) -> Result<Vec<Wait>, ContractError> {
    let Some(service) = pool.get_service_by_name(&format!("{PACKAGE}.WaitService")) else {
        return Ok(Vec::new());
    };
    service
        .methods()
        .map(|method| wait(pool, operations, &method))
        .collect()
}

fn wait(
    pool: &DescriptorPool,
    operations: &[Operation],
    method: &MethodDescriptor,
) -> Result<Wait, ContractError> {
    let place = place_of_method(method);
    let refuse = |problem: &str| Err(fault(&place, problem));
    let Some(Value::Message(policy)) = option(pool, &method.options(), "wait") else {
        return refuse("the option proton.policy.v1.wait is missing");
    };
    let accepted = get(&policy, "acceptors");
    let wait = Wait {
        name: method.name().to_owned(),
        operation: text(&get(&policy, "operation")),
        status: text(&get(&policy, "status")),
        deployment: text(&get(&policy, "deployment")),
        outputs: text(&get(&policy, "outputs")),
        delay_seconds: get(&policy, "delay_seconds").as_u32().unwrap_or_default(),
        acceptors: accepted
            .as_list()
            .unwrap_or_default()
            .iter()
            .filter_map(Value::as_message)
            .map(|acceptor| Accepted {
                status: text(&get(acceptor, "status")),
                error: text(&get(acceptor, "error")),
                outcome: choice(pool, acceptor, "outcome", "AcceptorOutcome"),
                success: get(acceptor, "success").as_bool().unwrap_or_default(),
            })
            .collect(),
    };
    let known = |name: &str| operations.iter().any(|operation| operation.name == name);
    if !known(&wait.operation) || !(wait.outputs.is_empty() || known(&wait.outputs)) {
        return refuse("`operation` and `outputs` must be operations");
    }
    if wait.status.is_empty() || wait.delay_seconds == 0 {
        return refuse("`status` or `delay_seconds` is missing");
    }
    for acceptor in &wait.acceptors {
        if acceptor.status.is_empty() == acceptor.error.is_empty() {
            return refuse("an acceptor has a status or an error, and not both");
        }
        if acceptor.outcome == "Unspecified" {
            return refuse("an acceptor has no outcome");
        }
    }
    if !wait.acceptors.iter().any(|acceptor| acceptor.success) {
        return refuse("no acceptor is a success");
    }
    Ok(wait)
}
