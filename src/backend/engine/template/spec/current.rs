//! `${Proton::CURRENT_VAL}`: keep the value that the current spec has at this place.
//!
//! User Guide, update a service: it lets developers who may not see all values edit a spec.

use std::fmt;

use serde_json::Value;

use crate::backend::engine::template::schema::Violation;

/// What stands in a spec for the current value. It counts only as a whole string.
pub const CURRENT_VALUE: &str = "${Proton::CURRENT_VAL}";

/// How many markers without a current value are listed.
const MAX_VIOLATIONS: usize = 100;

/// The replacement of markers in one spec.
#[derive(Default)]
pub(super) struct Resolution {
    /// Whether a marker was replaced.
    pub(super) replaced: bool,
    /// Markers for which there is no current value.
    pub(super) violations: Vec<Violation>,
}

/// A place in a spec. It is written out only where it is told: a long key may stand over very many
/// values.
#[derive(Clone, Copy)]
enum Place<'a> {
    Top(&'a str),
    Key(&'a Place<'a>, &'a str),
    Index(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top(path) => f.write_str(path),
            Self::Key(above, key) => write!(f, "{above}.{key}"),
            Self::Index(above, index) => write!(f, "{above}[{index}]"),
        }
    }
}

impl Resolution {
    pub(super) fn resolve(&mut self, value: &mut Value, current: Option<&Value>, path: &str) {
        self.resolve_at(value, current, Place::Top(path));
    }

    fn resolve_at(&mut self, value: &mut Value, current: Option<&Value>, place: Place<'_>) {
        match value {
            Value::String(text) if text == CURRENT_VALUE => match current {
                Some(current) => {
                    *value = current.clone();
                    self.replaced = true;
                }
                None if self.violations.len() >= MAX_VIOLATIONS => {}
                None => self.violations.push(Violation::new(
                    place.to_string(),
                    format!("is {CURRENT_VALUE}, but the current spec has no value there"),
                )),
            },
            Value::Object(map) => {
                for (key, inner) in map {
                    let current = current.and_then(|current| current.get(key));
                    self.resolve_at(inner, current, Place::Key(&place, key));
                }
            }
            Value::Array(items) => {
                for (index, inner) in items.iter_mut().enumerate() {
                    let current = current.and_then(|current| current.get(index));
                    self.resolve_at(inner, current, Place::Index(&place, index));
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
