//! The table of waits.

use std::fmt::Write;

use crate::contract::Contract;

pub fn emit(contract: &Contract) -> String {
    let mut out = String::new();
    let count = contract.waits.len();
    let _ = writeln!(
        out,
        "/// All waits, in the order of the contract.\npub static WAITS: [WaitPolicy; {count}] = ["
    );
    for wait in &contract.waits {
        let acceptors: Vec<_> = wait
            .acceptors
            .iter()
            .map(|acceptor| {
                format!(
                    "Acceptor {{ status: {:?}, error: {:?}, outcome: Outcome::{}, success: {} }}",
                    acceptor.status, acceptor.error, acceptor.outcome, acceptor.success
                )
            })
            .collect();
        let _ = writeln!(
            out,
            "    WaitPolicy {{ name: {:?}, operation: Operation::{}, status: &{:?}, deployment: &{:?}, delay_seconds: {}, acceptors: &[{}] }},",
            wait.name,
            wait.operation,
            path(&wait.status),
            path(&wait.deployment),
            wait.delay_seconds,
            acceptors.join(", ")
        );
    }
    out.push_str("];\n");
    out
}

fn path(text: &str) -> Vec<&str> {
    text.split('.').filter(|part| !part.is_empty()).collect()
}
