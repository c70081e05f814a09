//! What an answer says of one resource: its name, its times, and what others say of it too.

use prost_types::Timestamp;
use serde_json::{Map, Value};

use super::{Kind, Known};
use crate::backend::engine::portable::document::{IMPOSSIBLE, is_possible};
use crate::backend::engine::portable::problem::Place;

/// Lists of both kinds of templates, and of their versions, are called the same.
pub(super) fn kind_in_list(kind: Kind, item: &Value) -> Kind {
    let service = item["arn"]
        .as_str()
        .is_some_and(|arn| arn.contains(":service-template/"));
    match kind {
        Kind::EnvironmentTemplate if service => Kind::ServiceTemplate,
        Kind::EnvironmentVersion if service => Kind::ServiceVersion,
        kind => kind,
    }
}

/// What tells one resource of a kind from the others.
pub(super) fn name(kind: Kind, members: &Map<String, Value>, place: &Place<'_>) -> Option<String> {
    let names: &[&str] = match kind {
        Kind::EnvironmentTemplate
        | Kind::ServiceTemplate
        | Kind::Environment
        | Kind::Service
        | Kind::Component => &["name"],
        Kind::EnvironmentVersion | Kind::ServiceVersion => {
            &["templateName", "majorVersion", "minorVersion"]
        }
        Kind::Instance => &["serviceName", "name"],
        Kind::Deployment | Kind::Connection => &["id"],
        Kind::Repository => &["provider", "name"],
        Kind::TemplateSync => &["templateType", "templateName"],
        Kind::ServiceSync => &["serviceName"],
        Kind::Settings => &[],
    };
    let mut whole = Vec::new();
    for name in names {
        match members
            .get(*name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
        {
            Some(text) => whole.push(text),
            None => {
                place.member(name).wrong("is missing");
                return None;
            }
        }
    }
    Some(whole.join("/"))
}

/// Takes what another answer says of the same resource.
pub(super) fn merge(known: &mut Known, mut found: Known, place: &Place<'_>) {
    // What two answers cannot differ in, if they are about the same resource.
    let fixed = ["arn", "createdAt", "templateName"];
    for (name, value) in &found.members {
        let Some(other) = known.members.get(name) else {
            continue;
        };
        let matters = (known.full && found.full) || fixed.contains(&name.as_str());
        if matters && other != value {
            place
                .member(name)
                .wrong(format!("differs from what {} says", known.file));
        }
    }
    let list = "compatibleEnvironmentTemplates";
    if known.full != found.full {
        for it in [&mut *known, &mut found] {
            if !it.full
                && it
                    .members
                    .get(list)
                    .and_then(Value::as_array)
                    .is_some_and(Vec::is_empty)
            {
                it.members.shift_remove(list);
            }
        }
    }
    let less = if found.full && !known.full {
        std::mem::replace(known, found)
    } else {
        found
    };
    for (name, value) in less.members {
        known.members.entry(name).or_insert(value);
    }
}

/// Times as the codec reads them: the command line prints them in ISO 8601, or as numbers.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn times(value: &mut Value, place: &Place<'_>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let inner = place.member(name);
                match member {
                    Value::String(text) if name.ends_with("At") => {
                        match text.parse::<Timestamp>() {
                            Ok(time) if is_possible(&time) => *member = seconds(time).into(),
                            Ok(_) => inner.wrong(IMPOSSIBLE),
                            Err(_) => inner.wrong("must be a time in ISO 8601, or in seconds"),
                        }
                    }
                    Value::Number(seconds) if name.ends_with("At") => {
                        let seconds = seconds.as_f64().map(|seconds| Timestamp {
                            // Saturates.
                            seconds: seconds.floor() as i64,
                            nanos: 0,
                        });
                        if !seconds.is_some_and(|time| is_possible(&time)) {
                            inner.wrong(IMPOSSIBLE);
                        }
                    }
                    _ => times(member, &inner),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                times(item, &place.element(index));
            }
        }
        _ => {}
    }
}

#[allow(clippy::cast_precision_loss)]
fn seconds(time: Timestamp) -> f64 {
    time.seconds as f64 + f64::from(time.nanos / 1_000_000) / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::engine::portable::Problems;

    #[test]
    fn times_are_read_in_both_forms_that_the_command_line_prints() {
        let problems = Problems::default();
        let place = Place::whole("f", &problems);
        for text in [
            "2021-03-31T21:28:26.537000+00:00",
            "2021-03-31T23:28:26.537+02:00",
        ] {
            let mut value =
                serde_json::json!({"createdAt": text, "inner": [{"completedAt": text}]});
            times(&mut value, &place);
            assert_eq!(value["createdAt"], 1_617_226_106.537);
            assert_eq!(value["inner"][0]["completedAt"], 1_617_226_106.537);
        }
        let mut value = serde_json::json!({"createdAt": 1_617_226_106.537});
        times(&mut value, &place);
        assert!(problems.is_empty());
        times(&mut serde_json::json!({"createdAt": "yesterday"}), &place);
        assert_eq!(problems.finish().0[0].field, "createdAt");
    }
}
