//! Which schema files are accepted.

use super::*;

#[test]
fn the_input_types_are_known_by_name() {
    let schema =
        service("    T:\n      type: object\n      properties:\n        port: {type: number}\n")
            .expect("valid");
    assert_eq!(schema.type_name(SERVICE), Some("T"));
    assert_eq!(schema.type_name(InputType::Pipeline), None);
    assert_eq!(
        schema.properties(SERVICE),
        vec![("port", &json!({"type": "number"}))]
    );
}

#[test]
fn the_format_must_be_the_one_that_proton_accepts() {
    for format in ["{openapi: 3.1.0}", "{}", "{openapi: 3}", "[]"] {
        let text = format!(
            "schema: {{format: {format}, service_input_type: T, types: {{T: {{type: object}}}}}}"
        );
        let error = Schema::parse(&text).expect_err("refused").to_string();
        assert!(error.starts_with("`schema.format"), "{error}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let error = |text: &str| Schema::parse(text).expect_err("refused").to_string();
    assert_eq!(error(""), "`schema` is missing");
    assert_eq!(
        error("schema: {format: {openapi: 3.0.0}}"),
        "`schema.types` is missing"
    );
    assert!(
        error(
            "schema: {format: {openapi: 3.0.0}, service_input_type: X, types: {T: {type: object}}}"
        )
        .contains("names `X`")
    );
}

#[test]
fn broken_yaml_is_reported_with_its_line() {
    let error = Schema::parse("schema:\n  a: 1\n  a: 2\n").expect_err("refused");
    assert!(
        matches!(&error, SchemaError::Yaml(at) if at.line == Some(3)),
        "{error}"
    );
}

#[test]
fn an_input_type_must_be_an_object() {
    assert!(refused(&json!({"T": {"type": "string"}})).contains("type: object"));
    parse_types(&json!({"T": {"properties": {"a": {"type": "string"}}}})).expect("no type is fine");
}

#[test]
fn faulty_types_are_refused_with_their_place() {
    for (property, place) in [
        (json!({"type": "strin"}), "schema.types.T.properties.a.type"),
        (
            json!({"type": ["string", "null"]}),
            "schema.types.T.properties.a.type",
        ),
        (
            json!({"type": "string", "pattern": "("}),
            "schema.types.T.properties.a",
        ),
        (
            json!({"type": "string", "pattern": "(a{1000}){1000}"}),
            "schema.types.T.properties.a",
        ),
        (
            json!({"type": "string", "pattern": 5}),
            "schema.types.T.properties.a.pattern",
        ),
        (
            json!({"type": "number", "minimum": "1"}),
            "schema.types.T.properties.a.minimum",
        ),
        (
            json!({"type": "string", "minLength": -1}),
            "schema.types.T.properties.a.minLength",
        ),
        (
            json!({"type": "string", "enum": []}),
            "schema.types.T.properties.a.enum",
        ),
        (
            json!({"type": "string", "required": true}),
            "schema.types.T.properties.a.required",
        ),
        (
            json!({"type": "array", "items": [{"type": "string"}]}),
            "schema.types.T.properties.a.items",
        ),
        (json!("string"), "schema.types.T.properties.a"),
    ] {
        let error = refused(&json!({"T": {"type": "object", "properties": {"a": property}}}));
        assert!(
            error.starts_with(&format!("`{place}")),
            "{property}: {error}"
        );
        let unused = refused(
            &json!({"T": {"type": "object"}, "U": {"type": "object", "properties": {"a": property}}}),
        );
        assert!(unused.contains("schema.types.U"), "{property}: {unused}");
    }
}

#[test]
fn a_default_must_conform_to_its_own_schema() {
    let error = try_with(
        &json!({"port": {"type": "number", "maximum": 10, "default": 80}}),
        &json!({}),
    )
    .expect_err("refused");
    assert_eq!(
        error.to_string(),
        "`schema.types.T.properties.port.default` must be at most 10"
    );
    let nested = json!({"a": {"type": "array", "items": {"type": "object", "properties": {
        "b": {"type": "string", "default": 5}}}}});
    let error = try_with(&nested, &json!({}))
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("properties.a.items.properties.b.default"),
        "{error}"
    );
}

#[test]
fn a_required_name_must_be_a_property() {
    let error = try_with(
        &json!({"a": {"type": "string"}}),
        &json!({"required": ["b"]}),
    )
    .expect_err("refused");
    assert!(error.to_string().contains("`b`"), "{error}");
    with(&json!({"a": {"type": "string"}}), &json!({"required": []}));
}

#[test]
fn the_name_of_an_input_may_have_a_hundred_characters() {
    with(&json!({"x".repeat(100): {"type": "string"}}), &json!({}));
    try_with(&json!({"x".repeat(101): {"type": "string"}}), &json!({})).expect_err("refused");
}

#[test]
fn references_to_elsewhere_and_to_nothing_are_refused() {
    for reference in [
        "https://example.com/x.json",
        "other.yaml#/types/P",
        "file:///etc/passwd",
        "#",
        "#/",
        "#/schema/types/",
        "#/schema/types/T/properties/a",
    ] {
        let error =
            refused(&json!({"T": {"type": "object", "properties": {"a": {"$ref": reference}}}}));
        assert!(
            error.contains("must name a type of this file"),
            "{reference}: {error}"
        );
    }
    let error = refused(&json!({"T": {"type": "object", "properties": {"a": {"$ref": "Nobody"}}}}));
    assert!(error.contains("`Nobody`, which is not defined"), "{error}");
}

#[test]
fn types_that_contain_themselves_are_refused() {
    for types in [
        json!({"T": {"$ref": "T"}}),
        json!({"T": {"$ref": "U"}, "U": {"$ref": "T"}}),
        json!({"T": {"type": "object", "properties": {"child": {"$ref": "T"}}}}),
        json!({"T": {"type": "object", "properties": {"a": {"type": "array", "items": {"$ref": "U"}}}},
               "U": {"anyOf": [{"type": "string"}, {"$ref": "T"}]}}),
    ] {
        let error = refused(&types);
        assert!(error.contains("must not contain themselves"), "{error}");
    }
}

#[test]
fn types_that_multiply_are_refused() {
    let mut types = serde_json::Map::new();
    types.insert(
        "T".into(),
        json!({"type": "object", "properties": {"a": {"$ref": "L0"}}}),
    );
    for level in 0..20 {
        let next = format!("L{}", level + 1);
        types.insert(
            format!("L{level}"),
            json!({"allOf": [{"$ref": next}, {"$ref": next}, {"$ref": next}]}),
        );
    }
    types.insert("L20".into(), json!({"type": "string"}));
    assert!(refused(&Value::Object(types)).contains("too large"));
}

#[test]
fn deeply_nested_types_are_refused() {
    let mut kind = json!({"type": "string"});
    for _ in 0..40 {
        kind = json!({"type": "array", "items": kind});
    }
    let error = try_with(&json!({"a": kind}), &json!({})).expect_err("refused");
    assert!(!error.to_string().is_empty());
}

#[test]
fn a_schema_as_large_as_proton_returns_is_read_quickly() {
    let properties: serde_json::Map<String, Value> = (0..1_000)
        .map(|n| (format!("p{n}"), json!({"type": "string", "default": "x"})))
        .collect();
    let started = std::time::Instant::now();
    with(&Value::Object(properties), &json!({}));
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

#[test]
fn a_schema_can_be_shared_between_tasks() {
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    shared(&with(&json!({}), &json!({})));
}

#[test]
fn defaults_that_take_too_long_to_check_together_are_refused() {
    let list = vec!["a".repeat(11); 1_000];
    let property = json!({"type": "array", "default": list, "items": {
        "type": "string", "pattern": "^(?!(a|a)*(?=c)b)a"}});
    let properties: serde_json::Map<String, Value> = (0..15)
        .map(|n| (format!("p{n}"), property.clone()))
        .collect();
    let error = try_with(&Value::Object(properties), &json!({})).expect_err("refused");
    assert!(
        error.to_string().contains("is too much to check"),
        "{error}"
    );
}

#[test]
fn defaults_that_multiply_by_references_are_refused() {
    let properties: serde_json::Map<String, Value> = (0..1_000)
        .map(|n| (format!("p{n}"), json!({"$ref": "S"})))
        .collect();
    let error = refused(&json!({
        "T": {"type": "object", "properties": properties},
        "S": {"type": "string", "default": "x".repeat(20_000)}
    }));
    assert!(error.contains("is too large"), "{error}");
}

#[test]
fn nested_defaults_that_are_too_much_to_read_are_refused() {
    let mut kind = json!({"type": "object", "properties": (0..1_000)
        .map(|n| (format!("p{n}"), json!({"type": "string"})))
        .collect::<serde_json::Map<_, _>>()});
    for level in 0..12 {
        kind = json!({"type": "object", "default": {}, "properties": {format!("l{level}"): kind}});
    }
    let mut types = serde_json::Map::new();
    for n in 0..18 {
        types.insert(format!("T{n}"), kind.clone());
    }
    types.insert("T".into(), json!({"type": "object"}));
    let error = refused(&Value::Object(types));
    assert!(error.contains("too much to read"), "{error}");
}

#[test]
fn patterns_with_flags_conditions_or_too_many_states_are_refused() {
    for pattern in ["(?x)a", "(a)?(?(1)b|c)", "a{5000}{5000}", "(?R)", "("] {
        let error = refused(&json!({"T": {"type": "object", "properties": {
            "a": {"type": "string", "pattern": pattern}}}}));
        assert!(
            error.starts_with("`schema.types.T.properties.a.pattern` is not a pattern"),
            "{error}"
        );
    }
}
