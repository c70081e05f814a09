//! The section `[telemetry]`: where traces and metrics are sent, and how much of them. File only,
//! but for the endpoint.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::{ConfigError, Span, check_url, invalid};

/// The most that may wait: a span takes about a kilobyte.
const QUEUES: std::ops::RangeInclusive<usize> = 1..=1 << 20;
/// The most headers of an export.
const MOST_HEADERS: usize = 64;
/// What the gateway says of itself.
const OWN: [&str; 3] = ["service.name", "service.version", "service.instance.id"];

/// Whether calls are traced, and who is told.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TelemetryConfig {
    /// A collector that takes OTLP over gRPC; nothing is sent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The certificates that sign the collector's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Headers of each export, one a line: there may be secrets among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers_file: Option<PathBuf>,
    /// How the gateway is called in what is sent.
    pub service_name: String,
    /// Of the calls that come without a trace context.
    pub sample_ratio: f64,
    /// Whether metrics are sent as well.
    pub metrics: bool,
    /// How often metrics are sent.
    pub metrics_interval: Span,
    /// How long a span waits for others.
    pub batch_delay: Span,
    /// Spans that wait at most.
    pub queue: usize,
    /// How long an export may take, and the last one when the program stops.
    pub export_timeout: Span,
    /// What else is said of the gateway in what is sent, by OpenTelemetry's names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub resource_attributes: BTreeMap<String, String>,
}

impl Eq for TelemetryConfig {}

impl Default for TelemetryConfig {
    fn default() -> Self {
        let seconds = |seconds| Span(Duration::from_secs(seconds));
        Self {
            endpoint: None,
            ca_file: None,
            headers_file: None,
            service_name: "proton-gateway".to_owned(),
            sample_ratio: 0.01,
            metrics: true,
            metrics_interval: seconds(30),
            batch_delay: seconds(1),
            queue: 2048,
            export_timeout: seconds(5),
            resource_attributes: BTreeMap::new(),
        }
    }
}

impl TelemetryConfig {
    /// The section of the file, with the endpoint that was given elsewhere.
    pub(super) fn of(section: Option<Self>, endpoint: Option<String>) -> Self {
        let section = section.unwrap_or_default();
        Self {
            endpoint: endpoint.or(section.endpoint),
            ..section
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match &self.endpoint {
            Some(url) => {
                check_url(url, "http://127.0.0.1:4317")
                    .map_err(|problem| invalid("telemetry.endpoint", problem))?;
                let secure = url.starts_with("https://");
                if secure && self.ca_file.is_none() {
                    return Err(invalid(
                        "telemetry.ca-file",
                        "the endpoint is https: name the file with the certificates that sign the collector's",
                    ));
                }
                if !secure && self.ca_file.is_some() {
                    return Err(invalid(
                        "telemetry.ca-file",
                        "the endpoint is no https, and shows no certificate; leave it out",
                    ));
                }
            }
            None => {
                for (name, given) in [
                    ("telemetry.ca-file", self.ca_file.is_some()),
                    ("telemetry.headers-file", self.headers_file.is_some()),
                ] {
                    if given {
                        let problem = "nothing is sent without telemetry.endpoint";
                        return Err(invalid(name, problem));
                    }
                }
            }
        }
        if self.service_name.is_empty() {
            return Err(invalid("telemetry.service-name", "must not be empty"));
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err(invalid("telemetry.sample-ratio", "from 0 to 1"));
        }
        if !QUEUES.contains(&self.queue) {
            return Err(invalid("telemetry.queue", "from 1 to 1048576"));
        }
        for (name, span, longest) in [
            ("telemetry.metrics-interval", self.metrics_interval, 3600),
            ("telemetry.batch-delay", self.batch_delay, 60),
            ("telemetry.export-timeout", self.export_timeout, 60),
        ] {
            let sensible = Duration::from_millis(10)..=Duration::from_secs(longest);
            if !sensible.contains(&span.0) {
                let problem = format!("at least 10ms, at most {longest}s");
                return Err(invalid(name, problem));
            }
        }
        let own = |key: &&String| OWN.contains(&key.as_str()) || key.is_empty();
        if let Some(key) = self.resource_attributes.keys().find(own) {
            return Err(invalid(
                "telemetry.resource-attributes",
                format!("{key:?} is what the gateway says of itself; see telemetry.service-name"),
            ));
        }
        Ok(())
    }

    /// The headers in the file. They are sensitive, and so print as that.
    pub fn headers(&self) -> Result<HeaderMap, ConfigError> {
        let mut headers = HeaderMap::new();
        let Some(path) = &self.headers_file else {
            return Ok(headers);
        };
        let wrong = |problem| invalid("telemetry.headers-file", problem);
        let text = std::fs::read_to_string(path)
            .map_err(|cause| wrong(format!("cannot read {}: {cause}", path.display())))?;
        let lines = text.lines().enumerate();
        for (index, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            // Without the line itself: it is a secret.
            let place = || format!("{} is wrong at line {}", path.display(), index + 1);
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| wrong(format!("{}: write `name: value`", place())))?;
            let name = HeaderName::from_bytes(name.trim().as_bytes())
                .map_err(|_| wrong(format!("{}: this is no header's name", place())))?;
            let mut value = HeaderValue::from_str(value.trim())
                .map_err(|_| wrong(format!("{}: this is no header's value", place())))?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        if headers.len() > MOST_HEADERS {
            let problem = format!("{} has more than {MOST_HEADERS} headers", path.display());
            return Err(wrong(problem));
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(section: TelemetryConfig) -> String {
        section.check().unwrap_err().to_string()
    }

    #[test]
    fn what_could_not_be_meant_is_refused_with_its_key() {
        let given = TelemetryConfig::default;
        let to = |url: &str| TelemetryConfig {
            endpoint: Some(url.to_owned()),
            ..given()
        };
        let attributes = BTreeMap::from([("service.name".to_owned(), "x".to_owned())]);
        for (section, key) in [
            (to("collector:4317"), "telemetry.endpoint"),
            (to("http://user:pass@collector"), "telemetry.endpoint"),
            (to("https://collector"), "telemetry.ca-file"),
            (
                TelemetryConfig {
                    headers_file: Some("headers".into()),
                    ..given()
                },
                "telemetry.headers-file",
            ),
            (
                TelemetryConfig {
                    sample_ratio: 1.5,
                    ..given()
                },
                "telemetry.sample-ratio",
            ),
            (
                TelemetryConfig {
                    sample_ratio: f64::NAN,
                    ..given()
                },
                "telemetry.sample-ratio",
            ),
            (
                TelemetryConfig {
                    queue: 0,
                    ..given()
                },
                "telemetry.queue",
            ),
            (
                TelemetryConfig {
                    export_timeout: Span(Duration::from_secs(61)),
                    ..given()
                },
                "telemetry.export-timeout",
            ),
            (
                TelemetryConfig {
                    resource_attributes: attributes,
                    ..given()
                },
                "telemetry.resource-attributes",
            ),
        ] {
            let told = refused(section);
            assert!(told.starts_with(key), "{told}");
        }
        assert!(given().check().is_ok() && to("http://127.0.0.1:4317").check().is_ok());
    }

    #[test]
    fn headers_come_from_their_file_and_are_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let section = TelemetryConfig {
            headers_file: Some(file.path().to_owned()),
            ..TelemetryConfig::default()
        };
        std::fs::write(file.path(), "authorization: Bearer s3cret\n\nx-tenant: a\n").unwrap();
        let headers = section.headers().unwrap();
        assert_eq!(headers["authorization"], "Bearer s3cret");
        assert_eq!(headers["x-tenant"], "a");
        assert!(!format!("{headers:?}").contains("s3cret"));
        for wrong in ["s3cret", "a b: s3cret", "a: s3cret\u{1}"] {
            std::fs::write(file.path(), wrong).unwrap();
            let told = section.headers().unwrap_err().to_string();
            assert!(
                told.contains("line 1") && !told.contains("s3cret"),
                "{told}"
            );
        }
    }
}
