//! `[grpc-web]`: which pages' scripts are answered. In the file only.
//!
//! It is off where there is no such section. Which listeners speak it, `[[listeners]]` says; the one
//! of `listen` does.

use std::time::Duration;

use http::{HeaderValue, Uri};
use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, Span, invalid};

/// Of any page.
pub const ANY: &str = "*";
const MOST_ORIGINS: usize = 1000;
const LONGEST_AGE: Duration = Duration::from_secs(24 * 3600);

/// Whose pages' scripts are answered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GrpcWebConfig {
    /// As browsers send them, `https://console.example:8443`; `*` alone for any.
    pub allowed_origins: Vec<String>,
    /// Whether browsers may send what they hold of the user: client certificates, cookies. Default: not.
    #[serde(default)]
    pub credentials: bool,
    /// How long a browser remembers what it may send. Default: 1 h.
    #[serde(default = "an_hour")]
    pub max_age: Span,
}

fn an_hour() -> Span {
    Span(Duration::from_secs(3600))
}

impl GrpcWebConfig {
    pub fn allows_any(&self) -> bool {
        self.allowed_origins == [ANY]
    }

    pub(super) fn check(&self, config: &Config) -> Result<(), ConfigError> {
        let name = "grpc-web.allowed-origins";
        if !(1..=MOST_ORIGINS).contains(&self.allowed_origins.len()) {
            let problem = format!(
                "at least one, at most {MOST_ORIGINS}; leave the section out to answer none"
            );
            return Err(invalid(name, problem));
        }
        if let Some(wrong) = self.allowed_origins.iter().find(|it| !is_origin(it))
            && !self.allows_any()
        {
            return Err(invalid(
                name,
                format!(
                    "{wrong:?} is no origin like https://console.example or http://localhost:3000, in small letters and without a path; * stands alone"
                ),
            ));
        }
        if self.allows_any() && self.credentials {
            return Err(invalid(
                "grpc-web.credentials",
                "any page could use what the user's browser holds; name the origins",
            ));
        }
        if self.allows_any() && !config.authenticates() && !config.insecure {
            return Err(invalid(
                name,
                "callers are not authenticated, so that any page that a user visits could call; name the origins, configure [authentication], or add --insecure if that is meant",
            ));
        }
        if self.max_age.0 > LONGEST_AGE {
            return Err(invalid("grpc-web.max-age", "at most 24h; 0 asks each time"));
        }
        Ok(())
    }
}

/// Whether a browser could send this as the origin of a page.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    // What is parsed has a path even if none was given.
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let small = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    let default = matches!(
        (uri.scheme_str(), uri.port_u16()),
        (Some("http"), Some(80)) | (Some("https"), Some(443))
    );
    known
        && small
        && !default
        && !rest.is_empty()
        && !rest.contains(['/', '?', '#', '@', '*'])
        && HeaderValue::from_str(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for origin in [
            "https://console.example",
            "http://localhost:3000",
            "https://[::1]:8443",
        ] {
            assert!(is_origin(origin), "{origin}");
        }
        for other in [
            "console.example",
            "https://console.example/",
            "https://*.example",
            "https://Console.example",
            "https://console.example:443",
            "http://user@console.example",
            "ftp://console.example",
            "null",
            "",
        ] {
            assert!(!is_origin(other), "{other}");
        }
    }
}
