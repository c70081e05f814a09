//! Walking along a schema's tree and a value at the same time.

use serde_json::{Map, Value};

use super::Violation;
use super::pattern::Patterns;

/// What filling in defaults may cost: schemas visited plus bytes inserted.
const FILL_BUDGET: usize = 2_000_000;

/// What checking one value may cost. One unit is about half a microsecond, or [`STEPS`] or
/// [`BYTES`].
///
/// An item of a list is held against every alternative of its schema, so neither the size of the
/// schema nor that of the value says what a check costs.
const CHECK_BUDGET: usize = 500_000;

/// What compiling the schemas of a file may cost, in the same units.
const BUILD_BUDGET: usize = 2_000_000;

/// Steps of the matching of a pattern for one unit.
const STEPS: usize = 50;

/// Bytes compared or copied for one unit.
const BYTES: usize = 64;

/// Units for compiling a schema, and for each schema inside it.
const BUILD: usize = 100;
const BUILD_INNER: usize = 10;

/// What is left to spend.
pub(super) struct Budget {
    check: usize,
    fill: usize,
    build: usize,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self {
            check: CHECK_BUDGET,
            fill: FILL_BUDGET,
            build: BUILD_BUDGET,
        }
    }

    /// The budget of one of so many checks that belong together.
    pub(super) fn shared(checks: usize) -> Self {
        let mut budget = Self::new();
        budget.check /= checks.max(1);
        budget.fill /= checks.max(1);
        budget
    }

    /// Whether compiling the tree takes a bounded number of steps.
    pub(super) fn allows_building(&mut self, tree: &Value) -> bool {
        take(&mut self.build, BUILD).is_some() && building(tree, &mut self.build).is_some()
    }

    /// Whether checking the value against the tree takes a bounded number of steps.
    pub(super) fn allows_checking(
        &mut self,
        tree: &Value,
        value: &Value,
        patterns: &Patterns,
    ) -> bool {
        // What breaks a rule is looked at a second time, to say how.
        spend(tree, value, patterns, 2, 0, &mut self.check).is_some()
    }

    /// The value with the defaults of the tree filled in, those of nested objects too.
    pub(super) fn filled(&mut self, tree: &Value, values: &Value) -> Result<Value, Violation> {
        let too_much = || Violation::new("", "expands to too much once the defaults are filled in");
        take(&mut self.fill, size(values)).ok_or_else(too_much)?;
        let mut filled = values.clone();
        fill(tree, &mut filled, &mut self.fill).ok_or_else(too_much)?;
        Ok(filled)
    }
}

/// `None` once the budget is spent.
fn take(budget: &mut usize, units: usize) -> Option<()> {
    *budget = budget.checked_sub(units)?;
    Some(())
}

/// The members of `allOf`, `anyOf` and `oneOf`, which apply to the same value as `tree`.
pub(super) fn alternatives(tree: &Value) -> impl Iterator<Item = &Value> {
    ["allOf", "anyOf", "oneOf"]
        .into_iter()
        .filter_map(|key| members(tree, key))
        .flatten()
}

fn members<'a>(tree: &'a Value, key: &str) -> Option<&'a Vec<Value>> {
    tree.get(key)?.as_array()
}

fn building(tree: &Value, budget: &mut usize) -> Option<()> {
    take(budget, BUILD_INNER)?;
    for key in ["enum", "required"] {
        if let Some(list) = tree.get(key) {
            take(budget, size(list) / BYTES)?;
        }
    }
    let properties = tree.get("properties").and_then(Value::as_object);
    let inner = ["items", "not", "additionalProperties"]
        .into_iter()
        .filter_map(|key| tree.get(key));
    for schema in alternatives(tree)
        .chain(properties.into_iter().flat_map(Map::values))
        .chain(inner)
    {
        building(schema, budget)?;
    }
    Some(())
}

/// Charges for one value, held so many times against a schema. `path` is how long its place is in
/// bytes, since each violation names it.
fn spend(
    tree: &Value,
    value: &Value,
    patterns: &Patterns,
    times: usize,
    path: usize,
    budget: &mut usize,
) -> Option<()> {
    let mut charge = |units: usize| take(budget, units.saturating_mul(times));
    charge(1 + path / BYTES)?;
    for key in ["enum", "required", "not"] {
        match tree.get(key) {
            Some(Value::Array(list)) => {
                charge(list.len() + list.iter().map(size).sum::<usize>() / BYTES)?;
            }
            Some(schema) => charge(size(schema) / BYTES)?,
            None => {}
        }
    }
    match value {
        Value::String(text) => {
            charge(text.len() / BYTES)?;
            let pattern = tree.get("pattern").and_then(Value::as_str);
            if let Some(pattern) = pattern.and_then(|pattern| patterns.get(pattern)) {
                charge(pattern.states() / STEPS)?;
                charge(pattern.steps(text.len()) / STEPS)?;
            }
        }
        Value::Object(values) => {
            let properties = tree.get("properties").and_then(Value::as_object);
            let others = tree.get("additionalProperties");
            charge(values.len() + properties.map_or(0, Map::len))?;
            for (name, value) in values {
                let path = path + name.len();
                take(budget, path / BYTES)?;
                let property = properties.and_then(|properties| properties.get(name));
                if let Some(schema) = property.or(others) {
                    spend(schema, value, patterns, times, path, budget)?;
                }
            }
        }
        Value::Array(items) => {
            if tree.get("uniqueItems") == Some(&Value::Bool(true)) {
                // A few items are compared each with each.
                charge(items.len() + items.iter().map(size).sum::<usize>() / 4)?;
            }
            if let Some(schema) = tree.get("items") {
                for item in items {
                    spend(schema, item, patterns, times, path + 4, budget)?;
                }
            }
        }
        _ => {}
    }
    for member in members(tree, "allOf").into_iter().flatten() {
        spend(member, value, patterns, times, path, budget)?;
    }
    // Whether one holds is found out first; then each is asked why it does not.
    for member in ["anyOf", "oneOf"]
        .into_iter()
        .filter_map(|key| members(tree, key))
        .flatten()
        .chain(tree.get("not"))
    {
        spend(member, value, patterns, times + 1, path, budget)?;
    }
    Some(())
}

/// `None` once the budget is spent.
fn fill(tree: &Value, value: &mut Value, budget: &mut usize) -> Option<()> {
    *budget = budget.checked_sub(1)?;
    let empty = Map::new();
    let properties = tree
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    match value {
        Value::Object(values) => {
            for (name, property) in properties {
                *budget = budget.checked_sub(1)?;
                if let (None, Some(default)) = (values.get(name), property.get("default")) {
                    *budget = budget.checked_sub(size(default) + name.len())?;
                    values.insert(name.clone(), default.clone());
                }
                if let Some(value) = values.get_mut(name) {
                    fill(property, value, budget)?;
                }
            }
            if let Some(others) = tree
                .get("additionalProperties")
                .filter(|others| others.is_object())
            {
                for (_, value) in values
                    .iter_mut()
                    .filter(|(name, _)| !properties.contains_key(*name))
                {
                    fill(others, value, budget)?;
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = tree.get("items") {
                for item in items {
                    fill(schema, item, budget)?;
                }
            }
        }
        _ => {}
    }
    // Of alternatives one cannot know which is meant; of `allOf` all are.
    for member in tree
        .get("allOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        fill(member, value, budget)?;
    }
    Some(())
}

/// About as many bytes as the value has.
pub(super) fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 1,
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(map) => {
            1 + map
                .iter()
                .map(|(key, value)| key.len() + size(value))
                .sum::<usize>()
        }
        _ => 1,
    }
}
