//! Walking along a schema's tree and a value at the same time.

use serde_json::{Map, Value};

use super::Violation;

/// What filling in defaults may cost: schemas visited plus bytes inserted.
const FILL_BUDGET: usize = 2_000_000;

/// How many schemas may be applied to the parts of one value.
///
/// An item of a list is held against every alternative of its schema, so neither the size of the
/// schema nor that of the value says what a check costs.
const CHECK_BUDGET: usize = 500_000;

/// The members of `allOf`, `anyOf` and `oneOf`, which apply to the same value as `tree`.
pub(super) fn alternatives(tree: &Value) -> impl Iterator<Item = &Value> {
    ["allOf", "anyOf", "oneOf"]
        .into_iter()
        .filter_map(|key| tree.get(key)?.as_array())
        .flatten()
}

/// Whether checking the value against the tree takes a bounded number of steps.
pub(super) fn is_affordable(tree: &Value, value: &Value) -> bool {
    let mut budget = CHECK_BUDGET;
    spend(tree, value, &mut budget).is_some()
}

/// `None` once the budget is spent.
fn spend(tree: &Value, value: &Value, budget: &mut usize) -> Option<()> {
    let choices = tree
        .get("enum")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    *budget = budget.checked_sub(1 + choices)?;
    match value {
        Value::Object(values) => {
            let properties = tree.get("properties");
            let others = tree.get("additionalProperties");
            for (name, value) in values {
                let property = properties.and_then(|properties| properties.get(name));
                if let Some(schema) = property.or(others) {
                    spend(schema, value, budget)?;
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = tree.get("items") {
                for item in items {
                    spend(schema, item, budget)?;
                }
            }
        }
        _ => {}
    }
    for member in alternatives(tree).chain(tree.get("not")) {
        spend(member, value, budget)?;
    }
    Some(())
}

/// The value with the defaults of the tree filled in, those of nested objects too.
pub(super) fn filled(tree: &Value, values: &Value) -> Result<Value, Violation> {
    let mut filled = values.clone();
    let mut budget = FILL_BUDGET;
    fill(tree, &mut filled, &mut budget)
        .ok_or_else(|| Violation::new("", "expands to too much once the defaults are filled in"))?;
    Ok(filled)
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
fn size(value: &Value) -> usize {
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
