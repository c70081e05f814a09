//! Checking inputs and filling in defaults.

use super::*;

#[test]
fn references_between_types_are_followed() {
    for reference in [
        "#/schema/types/P",
        "#/types/P",
        "#/components/schemas/P",
        "#/definitions/P",
        "P",
    ] {
        let schema = parse_types(&json!({
            "T": {"type": "object", "properties": {"p": {"$ref": reference}, "l": {"type": "array", "items": {"$ref": reference}}}},
            "P": {"type": "object", "properties": {"n": {"type": "integer", "default": 1}}, "required": ["n"]}
        }))
        .expect("valid");
        assert_eq!(
            violations(
                &schema,
                &json!({"p": {"n": "x"}, "l": [{"n": 1}, {"n": true}]})
            ),
            [
                "`p.n` must be of type integer",
                "`l[1].n` must be of type integer"
            ]
        );
    }
}

/// They are read as floating-point numbers, and would lose their last digits.
#[test]
fn integers_have_at_most_64_bits() {
    let schema = with(
        &json!({
            "i": {"type": "integer"},
            "n": {"type": "number"},
            "l": {"type": "array", "items": {"type": "object", "properties": {"i": {"type": "integer"}}}}
        }),
        &json!({}),
    );
    let inputs = |text: &str| crate::backend::engine::template::yaml::parse(text).expect("YAML");
    for fine in [
        "i: 18446744073709551615",
        "i: -9223372036854775808",
        "n: 1e30",
    ] {
        assert_eq!(violations(&schema, &inputs(fine)), [""; 0], "{fine}");
    }
    for (text, place) in [
        ("i: 18446744073709551616", "i"),
        ("i: -9223372036854775809", "i"),
        ("l: [{i: 1}, {i: 1e30}]", "l[1].i"),
    ] {
        let expected = format!("`{place}` must be an integer of at most 64 bits");
        assert_eq!(violations(&schema, &inputs(text)), [expected], "{text}");
    }
    assert_eq!(
        violations(&schema, &inputs("i: 5.0")),
        ["`i` must be of type integer"],
        "OpenAPI 3.0 writes integers without a fraction"
    );
}

#[test]
fn an_input_type_may_itself_be_a_reference() {
    let schema = parse_types(&json!({"T": {"$ref": "#/schema/types/U"}, "U": {"type": "object", "properties": {"a": {"type": "string"}}}})).expect("valid");
    assert_eq!(
        violations(&schema, &json!({"a": 1})),
        ["`a` must be of type string"]
    );
}

#[test]
fn all_violations_are_listed_and_none_holds_a_value() {
    let schema = with(
        &json!({
            "port": {"type": "number", "minimum": 0, "maximum": 65535},
            "size": {"type": "string", "enum": ["small", "large"]},
            "image": {"type": "string", "minLength": 3, "maxLength": 5},
            "code": {"type": "string", "pattern": "^[a-z]+$"},
            "name": {"type": "string"},
            "count": {"type": "integer", "multipleOf": 2, "exclusiveMinimum": true, "minimum": 2},
            "tags": {"type": "array", "uniqueItems": true, "minItems": 1, "maxItems": 3, "items": {"type": "string"}},
            "extra": {"type": "object", "additionalProperties": false, "properties": {"a": {"type": "string"}}},
            "either": {"oneOf": [{"type": "string"}, {"type": "number"}]}
        }),
        &json!({"required": ["name", "port"]}),
    );
    let found = violations(
        &schema,
        &json!({
            "port": 70000, "size": "hunter2", "image": "hunter2", "code": "hunter2", "count": 2,
            "tags": ["hunter2", "hunter2", 5], "extra": {"a": 3, "b": "hunter2"}, "either": ["hunter2"],
            "typo": "hunter2"
        }),
    );
    for expected in [
        "`typo` is not an input of `T`; its inputs are `port`, `size`, `image`, `code`, `name`, `count`, `tags`, `extra`, `either`",
        "`port` must be at most 65535",
        "`size` must be one of \"small\", \"large\"",
        "`image` must have at most 5 characters",
        "`code` must match the pattern ^[a-z]+$",
        "`name` is required",
        "`count` must be more than 2",
        "`tags` must not hold the same item twice",
        "`tags[2]` must be of type string",
        "`extra.a` must be of type string",
        "`extra.b` is not a property that the schema knows",
        "`either` must match one alternative of its `oneOf`",
    ] {
        assert!(
            found.iter().any(|text| text == expected),
            "{expected} is not in {found:#?}"
        );
    }
    assert_eq!(found.len(), 12, "{found:#?}");
    assert!(
        found.iter().all(|text| !text.contains("hunter2")),
        "{found:#?}"
    );
}

#[test]
fn names_that_the_schema_does_not_know_are_refused_unless_it_says_otherwise() {
    let properties = json!({"a": {"type": "string"}});
    let given = json!({"a": "x", "b": 1});
    assert_eq!(violations(&with(&properties, &json!({})), &given).len(), 1);
    assert_eq!(
        violations(
            &with(&properties, &json!({"additionalProperties": false})),
            &given
        )
        .len(),
        1
    );
    assert_eq!(
        violations(
            &with(&properties, &json!({"additionalProperties": true})),
            &given
        )
        .len(),
        0
    );
    let numbers = json!({"additionalProperties": {"type": "number"}});
    assert_eq!(violations(&with(&properties, &numbers), &given).len(), 0);
    assert_eq!(
        violations(&with(&properties, &numbers), &json!({"b": "x"})),
        ["`b` must be of type number"]
    );
}

#[test]
fn properties_of_all_members_of_all_of_are_inputs() {
    let schema = with(
        &json!({"a": {"type": "string"}}),
        &json!({"allOf": [
        {"type": "object", "properties": {"b": {"type": "number", "default": 2}}}]}),
    );
    assert!(violations(&schema, &json!({"a": "x", "b": 1})).is_empty());
    assert_eq!(
        schema.materialise(SERVICE, &json!({})).expect("small"),
        json!({"b": 2})
    );
}

#[test]
fn inputs_that_are_no_mapping_are_refused() {
    let schema = with(&json!({}), &json!({}));
    assert_eq!(violations(&schema, &json!([])), ["must be of type object"]);
    assert_eq!(
        violations(&schema, &Value::Null),
        ["must be of type object"]
    );
}

#[test]
fn nullable_inputs_accept_null_and_others_do_not() {
    let schema = with(
        &json!({"a": {"type": "string", "nullable": true}, "b": {"type": "string", "example": 5}}),
        &json!({}),
    );
    assert_eq!(
        violations(&schema, &json!({"a": null, "b": null})),
        ["`b` must be of type string"]
    );
}

#[test]
fn patterns_are_searched_for_and_may_look_around() {
    let schema = with(
        &json!({"a": {"type": "string", "pattern": "b"}, "c": {"type": "string", "pattern": "^(?!aws)"}}),
        &json!({}),
    );
    assert!(violations(&schema, &json!({"a": "abc", "c": "x"})).is_empty());
    assert_eq!(violations(&schema, &json!({"c": "aws-x"})).len(), 1);
}

#[test]
fn a_pattern_that_backtracks_without_end_is_given_up() {
    let schema = with(
        &json!({"a": {"type": "string", "pattern": "^(?=(a+)+$)(a|aa)+\\1x$"}}),
        &json!({}),
    );
    let found = violations(&schema, &json!({"a": "a".repeat(5_000) + "!"}));
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn defaults_are_filled_in_and_what_has_none_stays_absent() {
    let schema = with(
        &json!({
            "port": {"type": "number", "default": 80},
            "image": {"type": "string"},
            "off": {"type": "boolean", "default": false},
            "given": {"type": "object", "properties": {"x": {"type": "number", "default": 1}, "y": {"type": "number"}}},
            "absent": {"type": "object", "properties": {"x": {"type": "number", "default": 1}}},
            "filled": {"type": "object", "default": {}, "properties": {"x": {"type": "number", "default": 1}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "number", "default": 1}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"x": {"type": "number", "default": 1}}}}
        }),
        &json!({"required": ["port"]}),
    );
    let given = json!({"given": {"y": 2}, "list": [{}, {"x": 3}], "map": {"k": {}}});
    assert!(
        violations(&schema, &given).is_empty(),
        "a default satisfies `required`"
    );
    assert_eq!(
        schema.materialise(SERVICE, &given).expect("small"),
        json!({"given": {"y": 2, "x": 1}, "list": [{"x": 1}, {"x": 3}], "map": {"k": {"x": 1}},
               "port": 80, "off": false, "filled": {"x": 1}})
    );
    assert_eq!(
        schema
            .materialise(SERVICE, &json!({"port": 1, "off": true}))
            .expect("small"),
        json!({"port": 1, "off": true, "filled": {"x": 1}})
    );
}

#[test]
fn a_default_beside_a_reference_counts() {
    let schema = parse_types(&json!({
        "T": {"type": "object", "properties": {"a": {"$ref": "S", "default": "x"}}},
        "S": {"type": "string"}
    }))
    .expect("valid");
    assert_eq!(
        schema.materialise(SERVICE, &json!({})).expect("small"),
        json!({"a": "x"})
    );
}

#[test]
fn defaults_that_multiply_are_a_violation() {
    let long = "x".repeat(40_000);
    let schema = with(
        &json!({"l": {"type": "array", "items": {"type": "object", "properties": {
        "a": {"type": "string", "default": long}}}}}),
        &json!({}),
    );
    let items: Vec<Value> = (0..200).map(|_| json!({})).collect();
    assert!(violations(&schema, &json!({"l": items}))[0].contains("expands to too much"));
}

#[test]
fn a_check_that_would_take_too_long_is_not_begun() {
    let choices: Vec<Value> = (0..1_000)
        .map(|n| json!({"type": "string", "minLength": n}))
        .collect();
    let schema = with(
        &json!({"l": {"type": "array", "items": {"anyOf": choices}}}),
        &json!({}),
    );
    let items = |count| json!({"l": vec!["x"; count]});
    assert!(violations(&schema, &items(100)).is_empty());
    assert_eq!(
        violations(&schema, &items(10_000)),
        ["is too much to check against the schema"]
    );
}

#[test]
fn a_list_of_strings_that_take_long_to_match_is_not_begun() {
    let items = json!({"type": "array", "items": {
        "type": "string", "pattern": "^(?!(a|a)*(?=c)b)a"}});
    let schema = with(&json!({"l": {"type": "array", "items": items}}), &json!({}));
    let list = vec!["a".repeat(11); 1_000];
    let lists = |count| json!({"l": vec![list.clone(); count]});
    assert_eq!(
        violations(&schema, &lists(91)),
        ["is too much to check against the schema"]
    );
    assert!(violations(&schema, &json!({"l": [["a".repeat(5)]]})).is_empty());
}

#[test]
fn lists_of_ordinary_names_are_checked_whatever_their_pattern() {
    for pattern in [
        "^[a-z][a-z0-9-]{1,62}$",
        "^(?!aws)[a-z0-9-]{1,63}$",
        "^(?!-)[a-z0-9-]{1,63}(?<!-)$",
        "^[a-z]+(-[a-z0-9]+)*$",
    ] {
        let schema = with(
            &json!({"l": {"type": "array", "items": {"type": "string", "pattern": pattern}}}),
            &json!({}),
        );
        let names: Vec<String> = (0..500).map(|n| format!("service-in-prod-{n}")).collect();
        let found = violations(&schema, &json!({ "l": names }));
        assert!(found.is_empty(), "{pattern}: {found:?}");
    }
    let schema = with(
        &json!({"l": {"type": "array", "items": {"type": "string",
            "pattern": "^(?!.*--)[a-z0-9]+(-[a-z0-9]+)*$"}}}),
        &json!({}),
    );
    let names = vec!["service-in-prod-1"; 20];
    assert_eq!(violations(&schema, &json!({ "l": names })), [""; 0]);
}

#[test]
fn a_match_that_is_given_up_inside_not_is_a_violation() {
    let schema = with(
        &json!({"a": {"not": {"type": "string", "pattern": "^(?=a)(a|a)*(?=c)b"}}}),
        &json!({}),
    );
    assert_eq!(violations(&schema, &json!({"a": "b"})), [""; 0]);
    assert_eq!(
        violations(&schema, &json!({"a": "a".repeat(40)})),
        ["holds a string that takes too long to match"]
    );
}

#[test]
fn long_choices_long_places_and_wide_objects_count() {
    let long = "k".repeat(20_000);
    let wide: serde_json::Map<String, Value> = (0..1_000)
        .map(|n| (format!("p{n}"), json!({"type": "string"})))
        .collect();
    let choices: Vec<String> = (0..1_000).map(|n| format!("choice-{n}")).collect();
    for items in [
        json!({"type": "object", "properties": wide}),
        json!({"type": "object", "required": choices}),
        json!({"type": "string", "enum": choices}),
    ] {
        let schema = with(&json!({"l": {"type": "array", "items": items}}), &json!({}));
        assert_eq!(
            violations(&schema, &json!({"l": vec![json!({}); 10_000]})).len(),
            1,
            "{items}"
        );
    }
    let schema = with(
        &json!({"m": {"type": "object", "additionalProperties": {
            "type": "array", "items": {"type": "string"}}}}),
        &json!({}),
    );
    assert_eq!(
        violations(&schema, &json!({"m": {long: vec![1; 50_000]}})),
        ["is too much to check against the schema"]
    );
}

#[test]
fn what_checks_may_cost_is_shared_among_those_of_one_spec() {
    let schema = with(
        &json!({"l": {"type": "array", "items": {"type": "string"}}}),
        &json!({}),
    );
    let values = json!({"l": vec!["x"; 50_000]});
    assert!(schema.validate_among(1, SERVICE, &values).is_empty());
    assert_eq!(schema.validate_among(20, SERVICE, &values).len(), 1);
}
