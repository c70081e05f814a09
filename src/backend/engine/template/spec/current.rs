//! `${Proton::CURRENT_VAL}`: keep the value that the current spec has at this place.
//!
//! User Guide, update a service: it lets developers who may not see all values edit a spec, and
//! keeps a value "if the values exist in the spec". Where none exists, what is kept is that there
//! is none.

use std::fmt;

use serde_json::Value;

use crate::backend::engine::template::schema::Violation;

/// What stands in a spec for the current value. It counts only as a whole string.
pub const CURRENT_VALUE: &str = "${Proton::CURRENT_VAL}";

/// Why a marker in a service's spec is refused.
pub(super) const NO_VALUE: &str = "but the current spec has no value there";

/// How many markers without a current value are listed.
const MAX_VIOLATIONS: usize = 100;

/// What becomes of markers for which there is no current value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Refused,
    /// Left out of mappings. Refused in lists, where others would take their places.
    LeftOut,
    /// Left out of lists too: nobody reads them.
    Unread,
}

/// The replacement of markers in one spec.
pub(super) struct Resolution {
    missing: Missing,
    /// Why there is no current value.
    why: &'static str,
    /// Whether a marker was replaced or left out.
    pub(super) replaced: bool,
    /// Refused markers.
    pub(super) violations: Vec<Violation>,
}

pub(super) fn is_marker(value: &Value) -> bool {
    value.as_str() == Some(CURRENT_VALUE)
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
    /// Of markers for which there is no current value, it is said `why`.
    pub(super) fn new(why: &'static str) -> Self {
        Self {
            missing: Missing::Refused,
            why,
            replaced: false,
            violations: Vec::new(),
        }
    }

    pub(super) fn resolve(
        &mut self,
        value: &mut Value,
        current: Option<&Value>,
        path: &str,
        missing: Missing,
    ) {
        self.missing = missing;
        self.resolve_at(value, current, Place::Top(path));
    }

    /// Notes a marker that is wrong.
    pub(super) fn refuse(&mut self, place: impl fmt::Display, why: &str) {
        if self.violations.len() < MAX_VIOLATIONS {
            let message = format!("is {CURRENT_VALUE}, {why}");
            self.violations
                .push(Violation::new(place.to_string(), message));
        }
    }

    fn resolve_at(&mut self, value: &mut Value, current: Option<&Value>, place: Place<'_>) {
        match value {
            Value::String(text) if text == CURRENT_VALUE => match current {
                Some(current) => {
                    *value = current.clone();
                    self.replaced = true;
                }
                None => self.refuse(place, self.why),
            },
            Value::Object(map) => map.retain(|key, inner| {
                let current = current.and_then(|current| current.get(key));
                if self.leaves_out(inner, current, Missing::LeftOut) {
                    return false;
                }
                self.resolve_at(inner, current, Place::Key(&place, key));
                true
            }),
            Value::Array(items) => {
                let mut index = 0;
                items.retain_mut(|inner| {
                    let current = current.and_then(|current| current.get(index));
                    let place = Place::Index(&place, index);
                    index += 1;
                    if self.leaves_out(inner, current, Missing::Unread) {
                        return false;
                    }
                    self.resolve_at(inner, current, place);
                    true
                });
            }
            _ => {}
        }
    }

    fn leaves_out(&mut self, value: &Value, current: Option<&Value>, from: Missing) -> bool {
        let out = (self.missing == from || self.missing == Missing::Unread)
            && current.is_none()
            && is_marker(value);
        self.replaced |= out;
        out
    }
}

/// The markers that are left in inputs, where there is no current value.
pub(super) fn unresolved(inputs: &Value, why: &'static str) -> Vec<Violation> {
    let mut resolution = Resolution::new(why);
    resolution.resolve(&mut inputs.clone(), None, "", Missing::Refused);
    let violations = resolution.violations.into_iter();
    violations
        .map(|found| Violation::new(found.path.trim_start_matches('.'), found.message))
        .collect()
}
