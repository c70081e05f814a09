//! The table of rpcs.

use std::fmt::Write;

use crate::contract::Contract;

pub fn emit(contract: &Contract) -> String {
    let mut out = String::new();
    let count = contract.rpcs.len();
    let _ = writeln!(
        out,
        "/// All rpcs, those of the operations first, in their order.\npub static RPCS: [Rpc; {count}] = ["
    );
    for rpc in &contract.rpcs {
        let class = match (rpc.waits, rpc.reads) {
            (true, _) => "Wait",
            (false, true) => "Read",
            (false, false) => "Write",
        };
        let _ = writeln!(
            out,
            "    Rpc {{ service: {:?}, method: {:?}, class: Class::{class}, of_principals: {} }},",
            rpc.service, rpc.method, rpc.of_principals
        );
    }
    out.push_str("];\n");
    out
}
