//! `docs/errors.md` has each reason once, with its code and its exception.

use std::collections::BTreeSet;

use regex::Regex;
use tonic::Code;

const SOURCE: &str = include_str!("../../src/edge/status.rs");
const DOCUMENT: &str = include_str!("../../docs/errors.md");

/// `INVALID_ARGUMENT` for `InvalidArgument`.
fn spelled(code: &str) -> String {
    let mut text = String::new();
    for (place, character) in code.char_indices() {
        if character.is_ascii_uppercase() && place > 0 {
            text.push('_');
        }
        text.push(character.to_ascii_uppercase());
    }
    text
}

#[test]
fn the_document_has_each_reason_with_its_code_and_its_exception() {
    let table = SOURCE.split("pub fn meaning").nth(1).unwrap();
    let table = table.split("Meaning {\n        reason,").next().unwrap();
    let row = Regex::new(r#""([A-Z_]+)",\s*Code::(\w+),\s*(?:"(\w+)"|\*exception)"#).unwrap();
    let in_code: BTreeSet<_> = row
        .captures_iter(table)
        .map(|row| {
            let exception = row.get(3).map(|name| name.as_str().to_owned());
            (row[1].to_owned(), spelled(&row[2]), exception)
        })
        .collect();
    assert!(in_code.len() > 15, "{in_code:?}");

    let row = Regex::new(r"(?m)^\| `([A-Z_]+)` \| ([A-Z_]+) \| ([^|]+) \|").unwrap();
    let in_document: BTreeSet<_> = row
        .captures_iter(DOCUMENT)
        .map(|row| {
            let exception = Some(row[3].to_owned()).filter(|text| !text.contains(' '));
            (row[1].to_owned(), row[2].to_owned(), exception)
        })
        .collect();
    assert_eq!(in_document, in_code);
}

#[test]
fn codes_are_spelled_as_grpc_spells_them() {
    let code = format!("{:?}", Code::FailedPrecondition);
    assert_eq!(spelled(&code), "FAILED_PRECONDITION");
}
