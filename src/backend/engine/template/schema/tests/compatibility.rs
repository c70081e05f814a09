//! Which newer schemas accept old specs.

use super::*;

#[test]
fn what_only_widens_is_compatible() {
    let old = with(
        &json!({
            "a": {"type": "number", "minimum": 1, "maximum": 5, "default": 2},
            "b": {"type": "string", "enum": ["x"], "pattern": "x"},
            "c": {"type": "object", "additionalProperties": false, "properties": {"d": {"type": "string"}}},
            "e": {"type": "array", "items": {"type": "string", "maxLength": 5}, "uniqueItems": true}
        }),
        &json!({"required": ["b"], "additionalProperties": false}),
    );
    let new = with(
        &json!({
            "a": {"type": "number", "minimum": 0, "maximum": 6, "title": "A", "nullable": true},
            "b": {"type": "string", "enum": ["x", "y"]},
            "c": {"type": "object", "properties": {"d": {"type": "string"}}},
            "e": {"type": "array", "items": {"type": "string", "maxLength": 6}},
            "f": {"type": "string"},
            "g": {"type": "string", "default": "g"}
        }),
        &json!({"required": ["g"]}),
    );
    assert_eq!(new.compatible_with(&old), Ok(()));
    assert_eq!(old.compatible_with(&old), Ok(()));
}

#[test]
fn whatever_could_refuse_an_old_spec_is_incompatible() {
    let base = json!({"a": {"type": "number", "minimum": 1, "maximum": 5},
        "b": {"type": "string", "enum": ["x", "y"], "nullable": true},
        "c": {"type": "object", "properties": {"d": {"type": "string"}}},
        "e": {"type": "array", "items": {"type": "string"}}});
    let old = with(&base, &json!({}));
    let changed = |pointer: &str, value: Value, more: Value| {
        let mut properties = base.clone();
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        let parent = properties
            .pointer_mut(parent)
            .expect("present")
            .as_object_mut()
            .expect("a map");
        if value.is_null() {
            parent.shift_remove(key);
        } else {
            parent.insert(key.to_owned(), value);
        }
        with(&properties, &more).compatible_with(&old)
    };
    let none = || json!({});
    for (pointer, value, more, expected) in [
        (
            "/a",
            Value::Null,
            none(),
            "`service_input_type.a`: the property was removed",
        ),
        (
            "/a/type",
            json!("integer"),
            none(),
            "`service_input_type.a`: the type changed from number to integer",
        ),
        (
            "/a/minimum",
            json!(2),
            none(),
            "`service_input_type.a`: `minimum` was added or raised",
        ),
        (
            "/a/maximum",
            json!(4),
            none(),
            "`service_input_type.a`: `maximum` was added or lowered",
        ),
        (
            "/a/exclusiveMaximum",
            json!(true),
            none(),
            "`service_input_type.a`: `exclusiveMaximum` was added",
        ),
        (
            "/a/multipleOf",
            json!(2),
            none(),
            "`service_input_type.a`: `multipleOf` was added or changed",
        ),
        (
            "/a/enum",
            json!([1]),
            none(),
            "`service_input_type.a`: `enum` was added",
        ),
        (
            "/b/enum",
            json!(["x"]),
            none(),
            "`service_input_type.b`: `enum` lost a choice",
        ),
        (
            "/b/nullable",
            Value::Null,
            none(),
            "`service_input_type.b`: null is no longer allowed",
        ),
        (
            "/b/pattern",
            json!("x"),
            none(),
            "`service_input_type.b`: `pattern` was added or changed",
        ),
        (
            "/b/maxLength",
            json!(9),
            none(),
            "`service_input_type.b`: `maxLength` was added or lowered",
        ),
        (
            "/c/properties/d/type",
            json!("number"),
            none(),
            "`service_input_type.c.d`: the type changed from string to number",
        ),
        (
            "/c/required",
            json!(["d"]),
            none(),
            "`service_input_type.c.d`: the property became required and has no default",
        ),
        (
            "/c/additionalProperties",
            json!(false),
            none(),
            "`service_input_type.c`: `additionalProperties` was added or narrowed",
        ),
        (
            "/e/items/minLength",
            json!(1),
            none(),
            "`service_input_type.e.items`: `minLength` was added or raised",
        ),
        (
            "/e/uniqueItems",
            json!(true),
            none(),
            "`service_input_type.e`: `uniqueItems` was added",
        ),
        (
            "/new",
            json!({"type": "string"}),
            json!({"required": ["new"]}),
            "`service_input_type.new`: the property became required and has no default",
        ),
    ] {
        assert_eq!(
            changed(pointer, value, more),
            Err(vec![expected.to_owned()]),
            "{pointer}"
        );
    }
}

#[test]
fn losing_the_default_of_a_required_input_is_incompatible() {
    let old = with(
        &json!({"a": {"type": "string", "default": "x"}}),
        &json!({"required": ["a"]}),
    );
    let new = with(
        &json!({"a": {"type": "string"}}),
        &json!({"required": ["a"]}),
    );
    assert!(new.compatible_with(&old).is_err());
    assert!(old.compatible_with(&new).is_ok());
}

#[test]
fn the_pipeline_type_may_neither_come_nor_go() {
    let without = parse_types(&json!({"T": {"type": "object"}})).expect("valid");
    let with = Schema::parse("schema: {format: {openapi: 3.0.0}, service_input_type: T, pipeline_input_type: T, types: {T: {type: object}}}").expect("valid");
    assert_eq!(
        with.compatible_with(&without),
        Err(vec!["`pipeline_input_type` was added".to_owned()])
    );
    assert_eq!(
        without.compatible_with(&with),
        Err(vec!["`pipeline_input_type` was dropped".to_owned()])
    );
}
