//! The model's constraints: required, length, range, pattern, enum values, sizes of lists.
//!
//! Checks never stop at the first violation, and never repeat a value: a value may be sensitive,
//! and the caller has it.

use std::sync::OnceLock;

use regex::Regex;

use super::json::Names;
use crate::error::{Error, Result, Violation};

/// Violations listed in one answer. Beyond them the caller learns nothing new.
const MOST_VIOLATIONS: usize = 100;

/// A named shape of the model; see `proton.policy.v1.Format`.
#[derive(Debug)]
pub struct Format {
    pub name: &'static str,
    /// In Unicode characters, as AWS counts.
    pub min_length: usize,
    pub max_length: Option<usize>,
    /// As the model writes it; shown to callers.
    pub pattern: &'static str,
    /// The same for the regex crate.
    pub regex: &'static str,
    pub minimum: Option<i64>,
    pub maximum: Option<i64>,
    pub compiled: OnceLock<Option<Regex>>,
}

/// What holds for one field.
#[derive(Debug)]
pub struct Rule {
    pub name: &'static str,
    pub required: bool,
    pub format: &'static Format,
    pub min_items: usize,
    pub max_items: usize,
    pub sensitive: bool,
}

/// A message that can be checked.
pub trait Rules {
    fn check(&self, check: &mut Check);
}

/// A check under way.
#[derive(Debug, Default)]
pub struct Check {
    /// Where we are: `tags[2]`; empty at the top.
    path: String,
    violations: Vec<Violation>,
    /// What is absent is no violation.
    partial: bool,
}

impl Check {
    /// What is wrong with the values that a message has; others may be absent, or empty.
    pub fn values(message: &dyn Rules) -> Vec<Violation> {
        let mut check = Self {
            partial: true,
            ..Self::default()
        };
        message.check(&mut check);
        check.violations
    }

    /// Checks a whole request.
    pub fn of(message: &dyn Rules) -> Result<()> {
        let mut check = Self::default();
        message.check(&mut check);
        if check.violations.is_empty() {
            return Ok(());
        }
        Err(violated(check.violations))
    }

    fn report(&mut self, name: &str, description: impl Into<String>) {
        if self.violations.len() < MOST_VIOLATIONS {
            let field = self.join(name);
            self.violations.push(Violation::new(field, description));
        }
    }

    fn join(&self, name: &str) -> String {
        match (self.path.is_empty(), name.starts_with('[')) {
            (true, _) => name.to_owned(),
            (false, true) => format!("{}{name}", self.path),
            (false, false) => format!("{}.{name}", self.path),
        }
    }

    fn within(&mut self, name: &str, message: &dyn Rules) {
        let outer = self.join(name);
        let outer = std::mem::replace(&mut self.path, outer);
        message.check(self);
        self.path = outer;
    }

    fn required(&mut self, rule: &Rule, present: bool) {
        if rule.required && !present && !self.partial {
            let missing = missing(rule.name);
            self.report(rule.name, missing.description);
        }
    }

    fn items(&mut self, rule: &Rule, count: usize) {
        let required = rule.required && !self.partial;
        if (count > 0 || required) && count < rule.min_items {
            let few = too_few(rule.name, rule.min_items);
            self.report(rule.name, few.description);
        }
        if rule.max_items > 0 && count > rule.max_items {
            let most = rule.max_items;
            self.report(
                rule.name,
                format!("Member must have length less than or equal to {most}"),
            );
        }
    }

    fn value(&mut self, name: &str, format: &'static Format, value: &str) {
        let length = value.chars().count();
        if length < format.min_length {
            let least = format.min_length;
            self.report(
                name,
                format!("Member must have length greater than or equal to {least}"),
            );
        }
        if let Some(most) = format.max_length.filter(|most| length > *most) {
            self.report(
                name,
                format!("Member must have length less than or equal to {most}"),
            );
        }
        if !format.matches(value) {
            let pattern = format.pattern;
            self.report(
                name,
                format!("Member must satisfy regular expression pattern: {pattern}"),
            );
        }
    }

    /// A string whose empty value means absent.
    pub fn text(&mut self, rule: &Rule, value: &str) {
        if value.is_empty() {
            self.required(rule, false);
        } else {
            self.value(rule.name, rule.format, value);
        }
    }

    pub fn optional_text(&mut self, rule: &Rule, value: &Option<String>) {
        match value {
            // As good as absent.
            Some(value) if value.is_empty() && self.partial => {}
            Some(value) => self.value(rule.name, rule.format, value),
            None => self.required(rule, false),
        }
    }

    pub fn texts(&mut self, rule: &Rule, values: &[String]) {
        self.items(rule, values.len());
        for (index, value) in values.iter().enumerate() {
            self.value(&format!("{}[{index}]", rule.name), rule.format, value);
        }
    }

    pub fn number(&mut self, rule: &Rule, value: &Option<i32>) {
        self.required(rule, value.is_some());
        let Some(value) = value.map(i64::from) else {
            return;
        };
        if let Some(least) = rule.format.minimum.filter(|least| value < *least) {
            self.report(
                rule.name,
                format!("Member must have value greater than or equal to {least}"),
            );
        }
        if let Some(most) = rule.format.maximum.filter(|most| value > *most) {
            self.report(
                rule.name,
                format!("Member must have value less than or equal to {most}"),
            );
        }
    }

    fn known<E: Names>(&mut self, name: &str, value: i32) {
        if !E::NAMES.iter().any(|(known, _)| *known == value) {
            let names: Vec<_> = E::NAMES.iter().map(|(_, name)| *name).collect();
            self.report(
                name,
                format!("Member must satisfy enum value set: [{}]", names.join(", ")),
            );
        }
    }

    pub fn choice<E: Names>(&mut self, rule: &Rule, value: i32) {
        match value {
            0 => self.required(rule, false),
            _ => self.known::<E>(rule.name, value),
        }
    }

    pub fn choices<E: Names>(&mut self, rule: &Rule, values: &[i32]) {
        self.items(rule, values.len());
        for (index, value) in values.iter().enumerate() {
            self.known::<E>(&format!("{}[{index}]", rule.name), *value);
        }
    }

    pub fn message<M: Rules>(&mut self, rule: &Rule, value: &Option<M>) {
        match value {
            Some(message) => self.within(rule.name, message),
            None => self.required(rule, false),
        }
    }

    pub fn messages<M: Rules>(&mut self, rule: &Rule, values: &[M]) {
        self.items(rule, values.len());
        for (index, value) in values.iter().enumerate() {
            self.within(&format!("{}[{index}]", rule.name), value);
        }
    }

    /// A boolean or a time: nothing to check but that it is there.
    pub fn present<T>(&mut self, rule: &Rule, value: &Option<T>) {
        self.required(rule, value.is_some());
    }

    /// The member that a union has.
    pub fn member(&mut self, name: &str, message: &dyn Rules) {
        self.within(name, message);
    }

    pub fn no_member(&mut self, names: &[&str]) {
        if self.partial {
            return;
        }
        let names = names.join(", ");
        let path = std::mem::take(&mut self.path);
        self.report(&path, format!("Exactly one member must be set: [{names}]"));
        self.path = path;
    }
}

/// The violation of a required field that is absent.
pub fn missing(field: impl Into<String>) -> Violation {
    Violation::new(field, "Member must not be null")
}

/// The violation of a list that has fewer items than it must have.
pub fn too_few(field: impl Into<String>, least: usize) -> Violation {
    Violation::new(
        field,
        format!("Member must have length greater than or equal to {least}"),
    )
}

/// One error for all violations, with a text in the form that AWS's services use.
pub fn violated(violations: Vec<Violation>) -> Error {
    let count = violations.len();
    let plural = if count == 1 { "" } else { "s" };
    let list: Vec<_> = violations
        .iter()
        .map(|violation| {
            format!(
                "Value at '{}' failed to satisfy constraint: {}",
                // A list that may be absent is a message in the contract alone.
                camel_case(&violation.field).replace(".values[", "["),
                violation.description
            )
        })
        .collect();
    let message = format!(
        "{count} validation error{plural} detected: {}",
        list.join("; ")
    );
    Error::violations(message, violations)
}

/// A path of the contract in the spelling of AWS's wire.
pub fn camel_case(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut upper = false;
    for character in path.chars() {
        if character == '_' {
            upper = true;
        } else if std::mem::take(&mut upper) {
            out.extend(character.to_uppercase());
        } else {
            out.push(character);
        }
    }
    out
}

/// A text that names `fields`, in the spelling of AWS's wire. What stands in backticks, in quotes or
/// in a path is a name of the caller's.
pub fn in_camel_case(text: &str, fields: &[&str]) -> String {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut quote) = (text, None);
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_part(c) != is_part(first));
        let (token, after) = rest.split_at(end.unwrap_or(rest.len()));
        let is_name = quote.is_none()
            && fields.binary_search(&token).is_ok()
            && !out.ends_with(['/', '-'])
            && !after.starts_with(['/', '-']);
        match is_name {
            true => out.push_str(&camel_case(token)),
            false => out.push_str(token),
        }
        for mark in token.chars().filter(|mark| matches!(mark, '`' | '"')) {
            match quote {
                None => quote = Some(mark),
                Some(open) if open == mark => quote = None,
                Some(_) => {}
            }
        }
        rest = after;
    }
    out
}

impl Format {
    /// The format that the contract calls `name`.
    pub fn of(name: &str) -> Option<&'static Self> {
        super::generated_rules::formats().find(|format| format.name == name)
    }

    /// What is wrong with a value of this format.
    pub fn violations(&'static self, value: &str) -> Vec<Violation> {
        let mut check = Check::default();
        check.value("", self, value);
        check.violations
    }

    /// Whether the pattern is found in the value. A pattern that does not compile would be a
    /// fault of the contract, which a test excludes.
    fn matches(&self, value: &str) -> bool {
        let regex = self.compiled.get_or_init(|| Regex::new(self.regex).ok());
        regex.as_ref().is_some_and(|regex| regex.is_match(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_named_as_on_the_wire_and_names_of_the_callers_own_are_left() {
        let fields = ["service_name", "template_name"];
        for (text, expected) in [
            ("template_name: is required", "templateName: is required"),
            (
                "filters[0].template_name is required together with service_name",
                "filters[0].templateName is required together with serviceName",
            ),
            (
                "`spec.service_name` must be a name; service_name is not",
                "`spec.service_name` must be a name; serviceName is not",
            ),
            (
                "`a` must be one of \"service_name\", \"`\"; service_name is not",
                "`a` must be one of \"service_name\", \"`\"; serviceName is not",
            ),
            (
                "service/service_name is a-template_name",
                "service/service_name is a-template_name",
            ),
            ("my_template_name ünknown", "my_template_name ünknown"),
        ] {
            assert_eq!(in_camel_case(text, &fields), expected);
        }
    }
}
