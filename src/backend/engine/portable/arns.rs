//! ARNs in records: of Proton's resources there are only those of the gateway's own account and
//! region.

use serde_json::Value;

use super::problem::Place;
use crate::backend::engine::context::Settings;

/// Notes ARNs of Proton's resources that this gateway would write otherwise. Nobody could call
/// what they stand for.
pub fn check(value: &Value, settings: &Settings, place: &Place<'_>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let place = place.member(name);
                match member {
                    Value::String(text) if name == "arn" || name.ends_with("Arn") => {
                        one(name, text, settings, &place);
                    }
                    other => check(other, settings, &place),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                check(item, settings, &place.element(index));
            }
        }
        _ => {}
    }
}

fn one(name: &str, text: &str, settings: &Settings, place: &Place<'_>) {
    let parts: Vec<_> = text.splitn(6, ':').collect();
    let ["arn", _, service, region, account, _] = parts.as_slice() else {
        // What else is no ARN is found where the others are read.
        if name == "arn" {
            place.wrong("is no ARN");
        }
        return;
    };
    let own = *region == settings.region && *account == settings.account_id;
    if *service == "proton" && !own {
        place.wrong(format!(
            "is of another account or region than the gateway's; correct it, or give --account-id \
             {account} --region {region}"
        ));
    }
}
