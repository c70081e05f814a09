//! `${Proton::CURRENT_VAL}`: keep the value that the current spec has at this place.
//!
//! User Guide, update a service: it lets developers who may not see all values edit a spec.

use serde_json::Value;

use crate::backend::engine::template::schema::Violation;

/// What stands in a spec for the current value. It counts only as a whole string.
pub const CURRENT_VALUE: &str = "${Proton::CURRENT_VAL}";

/// The replacement of markers in one spec.
#[derive(Default)]
pub(super) struct Resolution {
    /// Whether a marker was replaced.
    pub(super) replaced: bool,
    /// Markers for which there is no current value.
    pub(super) violations: Vec<Violation>,
}

impl Resolution {
    pub(super) fn resolve(&mut self, value: &mut Value, current: Option<&Value>, path: &str) {
        match value {
            Value::String(text) if text == CURRENT_VALUE => match current {
                Some(current) => {
                    *value = current.clone();
                    self.replaced = true;
                }
                None => self.violations.push(Violation::new(
                    path,
                    format!("is {CURRENT_VALUE}, but the current spec has no value there"),
                )),
            },
            Value::Object(map) => {
                for (key, inner) in map {
                    let current = current.and_then(|current| current.get(key));
                    self.resolve(inner, current, &format!("{path}.{key}"));
                }
            }
            Value::Array(items) => {
                for (index, inner) in items.iter_mut().enumerate() {
                    let current = current.and_then(|current| current.get(index));
                    self.resolve(inner, current, &format!("{path}[{index}]"));
                }
            }
            _ => {}
        }
    }
}

/// The markers that are left in inputs, where there is no current value.
pub(super) fn unresolved(inputs: &Value) -> Vec<Violation> {
    let mut resolution = Resolution::default();
    resolution.resolve(&mut inputs.clone(), None, "");
    let violations = resolution.violations.into_iter();
    violations
        .map(|found| Violation::new(found.path.trim_start_matches('.'), found.message))
        .collect()
}
