//! Modes of update: which template version an update deploys.
//!
//! API Reference, `deploymentType`; the same for environments, service instances and pipelines.

use super::context::Context;
use super::registry::{self, VersionRecord};
use super::store::Transaction;
use crate::api::pb::{DeploymentUpdateType, TemplateType};
use crate::error::{Error, Result, Violation};

/// Which version to deploy, relative to the one that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// The same.
    Current,
    /// Another minor of the same major: the named one, else the recommended one.
    Minor {
        major: Option<String>,
        minor: Option<String>,
    },
    /// A higher major that is named, else the recommended version, which may be of the same major.
    Major {
        major: Option<String>,
        minor: Option<String>,
    },
}

/// A field that only a deployment could give an effect.
pub fn nothing_deployed(field: &str) -> Error {
    Error::invalid_field(
        field,
        "has no effect with the deployment type NONE; leave it out, or use CURRENT_VERSION",
    )
}

impl Mode {
    /// The mode of a request; `None` if it deploys nothing.
    pub fn of(
        kind: DeploymentUpdateType,
        major: Option<&str>,
        minor: Option<&str>,
    ) -> Result<Option<Self>> {
        let owned = |part: Option<&str>| part.map(str::to_owned);
        match kind {
            DeploymentUpdateType::None => {
                none_of("NONE", major, minor)?;
                Ok(None)
            }
            DeploymentUpdateType::CurrentVersion => {
                none_of("CURRENT_VERSION", major, minor)?;
                Ok(Some(Self::Current))
            }
            DeploymentUpdateType::MinorVersion => Ok(Some(Self::Minor {
                major: owned(major),
                minor: owned(minor),
            })),
            DeploymentUpdateType::MajorVersion => {
                if major.is_none() && minor.is_some() {
                    return Err(Error::invalid_field(
                        "template_major_version",
                        "is required together with template_minor_version for the deployment type MAJOR_VERSION",
                    ));
                }
                Ok(Some(Self::Major {
                    major: owned(major),
                    minor: owned(minor),
                }))
            }
            DeploymentUpdateType::Unspecified => {
                Err(Error::invalid_field("deployment_type", "is required"))
            }
        }
    }

    /// The version to deploy on something that is on `major`.`minor` of `template`.
    pub fn version(
        &self,
        tx: &Transaction<'_>,
        cx: &Context,
        kind: TemplateType,
        template: &str,
        major: &str,
        minor: &str,
    ) -> Result<VersionRecord> {
        match self {
            Self::Current => registry::deployable(tx, cx, kind, template, major, Some(minor)),
            Self::Minor {
                major: named,
                minor: wanted,
            } => {
                if named.as_deref().is_some_and(|named| named != major) {
                    return Err(Error::invalid_field(
                        "template_major_version",
                        format!(
                            "must be the current one, {major}, for the deployment type MINOR_VERSION"
                        ),
                    ));
                }
                registry::deployable(tx, cx, kind, template, major, wanted.as_deref())
            }
            Self::Major {
                major: named,
                minor: wanted,
            } => {
                let current = registry::number(major);
                let refused =
                    |problem| Err(Error::invalid_field("template_major_version", problem));
                let next = match named {
                    Some(named) if registry::number(named) > current => named.clone(),
                    Some(_) => {
                        return refused(format!(
                            "must be higher than the current one, {major}, for the deployment type \
                             MAJOR_VERSION"
                        ));
                    }
                    None => match registry::template(tx, kind, template)?.recommended() {
                        Some((next, _)) if Some(next) >= current => next.to_string(),
                        _ => {
                            return refused(format!(
                                "is required: no version is recommended from the current one, \
                                 {major}, upwards"
                            ));
                        }
                    },
                };
                registry::deployable(tx, cx, kind, template, &next, wanted.as_deref())
            }
        }
    }
}

fn none_of(mode: &str, major: Option<&str>, minor: Option<&str>) -> Result<()> {
    let violations: Vec<_> = [
        ("template_major_version", major),
        ("template_minor_version", minor),
    ]
    .into_iter()
    .filter(|(_, part)| part.is_some())
    .map(|(field, _)| {
        Violation::new(
            field,
            format!("must be left out for the deployment type {mode}"),
        )
    })
    .collect();
    match violations.first() {
        None => Ok(()),
        Some(first) => Err(Error::violations(
            format!("{} {}", first.field, first.description),
            violations,
        )),
    }
}
