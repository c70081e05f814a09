//! Specs of requests, checked against the schema of the version they are for.

use super::context::Context;
use super::registry::VersionRecord;
use super::template::schema::Schema;
use super::template::spec::{EnvironmentSpec, ServiceSpec, SpecError};
use crate::api::pb;
use crate::error::{Error, Result, Violation};

/// The longest spec (API model, SpecContents).
const MAX_CHARS: usize = 51_200;

/// The schema of a registered version. One that was imported may have none.
pub fn schema(cx: &Context, version: &VersionRecord) -> Result<Schema> {
    let Some(text) = version.schema.as_deref() else {
        let tail = version.tail();
        return Err(Error::precondition(
            &tail,
            format!(
                "{tail} was imported without its schema; register another version, and deploy that"
            ),
        ));
    };
    cx.schema(text).ok_or_else(|| {
        Error::internal(format!(
            "the schema of {}, once accepted, is not any more",
            version.tail()
        ))
    })
}

/// What is wrong with a spec, as a refusal of the request it is in.
pub fn refused(error: &SpecError) -> Error {
    let violations = error
        .violations
        .iter()
        .map(|violation| Violation::new("spec", violation.to_string()))
        .collect();
    Error::violations(error.to_string(), violations)
}

/// Checks the spec of an environment. Returns the outputs that a customer managed one gives.
pub fn environment(
    cx: &Context,
    version: &VersionRecord,
    text: &str,
    customer_managed: bool,
) -> Result<Vec<pb::Output>> {
    let schema = schema(cx, version)?;
    let spec =
        EnvironmentSpec::parse(text, &schema, customer_managed).map_err(|error| refused(&error))?;
    Ok(spec
        .outputs
        .into_iter()
        .map(|(key, value)| pb::Output {
            key: Some(key),
            value_string: Some(value),
        })
        .collect())
}

/// Reads the spec of a service. Its inputs are checked by instance, and for the pipeline. How many
/// instances there may be is a quota, not a rule of specs.
pub fn service(text: &str) -> Result<ServiceSpec> {
    ServiceSpec::parse(text, usize::MAX).map_err(|error| refused(&error))
}

/// The text of a spec, if it is no longer than a spec may be: filling in values, and taking over
/// parts, can make one grow, all the more where it used YAML's aliases.
pub fn rendered(spec: &ServiceSpec) -> Result<String> {
    spec.render_within(MAX_CHARS)
        .map_err(|error| refused(&error))
}

/// Reads a spec that was accepted before; one that was imported may be absent.
pub fn stored(text: &str) -> Result<ServiceSpec> {
    if text.is_empty() {
        return Ok(ServiceSpec {
            pipeline: None,
            instances: Vec::new(),
        });
    }
    ServiceSpec::parse(text, usize::MAX)
        .map_err(|_| Error::internal("a spec that was once accepted is not any more"))
}
