//! `[authorization]`: which policies say who may do what.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ConfigError, invalid};

/// What callers may do, where they are authenticated.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AuthorizationOptions {
    pub policy_files: Vec<PathBuf>,
    pub list_filter: Option<bool>,
    pub built_in_roles: Option<bool>,
}

/// The effective section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AuthorizationConfig {
    /// Files of Cedar policies, or folders of such files (`*.cedar`).
    pub policy_files: Vec<PathBuf>,
    /// Whether lists leave out what the caller may not get one by one.
    pub list_filter: bool,
    /// Whether the roles `administrator`, `developer` and `viewer` mean something by themselves.
    pub built_in_roles: bool,
}

impl Default for AuthorizationConfig {
    fn default() -> Self {
        Self {
            policy_files: Vec::new(),
            list_filter: false,
            built_in_roles: true,
        }
    }
}

impl AuthorizationConfig {
    pub(super) fn of(options: &AuthorizationOptions) -> Result<Self, ConfigError> {
        let config = Self {
            policy_files: options.policy_files.clone(),
            list_filter: options.list_filter.unwrap_or(false),
            built_in_roles: options.built_in_roles.unwrap_or(true),
        };
        let empty = |path: &PathBuf| path.as_os_str().is_empty();
        if config.policy_files.iter().any(empty) {
            return Err(invalid("authorization.policy-files", "a path is empty"));
        }
        for (index, path) in config.policy_files.iter().enumerate() {
            if config.policy_files[..index].contains(path) {
                return Err(invalid(
                    "authorization.policy-files",
                    format!("{} is given twice", path.display()),
                ));
            }
        }
        if !config.built_in_roles && config.policy_files.is_empty() {
            return Err(invalid(
                "authorization.built-in-roles",
                "without built-in roles and without policy-files nobody may do anything",
            ));
        }
        Ok(config)
    }
}
