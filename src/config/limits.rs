//! The section `[limits]`: how much each caller may ask for, and all together, and how much is
//! asked of the upstream. File only.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, LONGEST_SPAN, Span, Upstream, invalid};
use crate::api::{Class, Operation, Rpc};

/// The most that a count or a burst can be.
const MOST: u32 = 1_000_000;
/// The most callers that can be remembered; each takes about 150 bytes.
const MOST_CALLERS: u32 = 10_000_000;

/// What limits callers, and what is sent to the upstream.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Limits {
    /// Only counts and logs what would be refused of callers.
    pub shadow: bool,
    /// How many callers are remembered at the same time.
    pub max_callers: u32,
    /// Calls of one principal at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<u32>,
    /// Open streams of one principal; 2,500 of one that is known where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<u32>,
    /// Of each principal: calls that change nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Quota>,
    /// Of each principal: calls that change something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<Quota>,
    /// Of each principal: streams that are opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<Quota>,
    /// Of all principals together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Total>,
    /// What an rpc costs; 1 where nothing is said.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub costs: BTreeMap<String, u32>,
    /// Other limits for some principals.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// Where the upstream is AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamLimits>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            shadow: false,
            max_callers: 100_000,
            calls: None,
            streams: None,
            read: None,
            write: None,
            wait: None,
            total: None,
            costs: BTreeMap::new(),
            overrides: Vec::new(),
            upstream: None,
        }
    }
}

/// How often, and how much at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Quota {
    /// How often.
    pub rate: Rate,
    /// How much at once after a pause.
    pub burst: u32,
}

/// A rate with its unit: `50/s`, `6/m`, `100/h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    count: u32,
    unit: char,
}

impl Rate {
    /// The time between two calls.
    pub fn interval(self) -> Duration {
        let seconds = match self.unit {
            'h' => 3600,
            'm' => 60,
            _ => 1,
        };
        Duration::from_secs(seconds) / self.count.max(1)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rate = text.split_once('/').and_then(|(count, unit)| {
            let count = count.parse().ok()?;
            let unit = ["s", "m", "h"].contains(&unit).then_some(unit)?;
            Some(Self {
                count,
                unit: unit.chars().next()?,
            })
        });
        rate.filter(|rate| (1..=MOST).contains(&rate.count))
            .ok_or_else(|| format!("{text:?} is no rate like 50/s, 6/m or 100/h, from 1 to {MOST}"))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit)
    }
}

impl TryFrom<String> for Rate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

/// What all callers together may ask for.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Total {
    /// Calls at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<u32>,
    /// Open streams; 10,000 where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<u32>,
    /// Of calls of all classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// How much at once after a pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

impl Total {
    pub fn quota(&self) -> Option<Quota> {
        let (rate, burst) = (self.rate?, self.burst?);
        Some(Quota { rate, burst })
    }
}

/// Other limits for one principal, or for all that have a role. What is not said here is as for
/// everybody.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Override {
    /// The principal's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// A role, in place of a principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Calls of one principal at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<u32>,
    /// Open streams of one principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<u32>,
    /// Of each principal: calls that change nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Quota>,
    /// Of each principal: calls that change something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<Quota>,
    /// Of each principal: streams that are opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<Quota>,
}

/// How many calls are made of the upstream at the same time. The number follows what the upstream
/// bears.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct UpstreamLimits {
    /// Whether there is a limit, which follows what the upstream bears.
    pub enabled: bool,
    /// Calls at the same time to begin with.
    pub start: u32,
    /// It never becomes lower.
    pub min: u32,
    /// It never becomes higher.
    pub max: u32,
    /// Calls that wait for their turn.
    pub queue: u32,
    /// How long one waits for its turn at most.
    pub queue_time: Span,
    /// A call that takes longer says that the upstream has too much to do.
    pub slow_call: Span,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            enabled: true,
            start: 32,
            min: 1,
            max: 256,
            queue: 1024,
            queue_time: Span(Duration::from_secs(2)),
            slow_call: Span(Duration::from_secs(10)),
        }
    }
}

impl Limits {
    /// What holds: `given`, completed and checked.
    pub(super) fn of(given: Option<Self>, upstream: Upstream) -> Result<Option<Self>, ConfigError> {
        let forwards = upstream == Upstream::Aws;
        let mut limits = match given {
            Some(limits) => limits,
            None if forwards => Self::default(),
            None => return Ok(None),
        };
        if forwards {
            limits.upstream.get_or_insert_default();
        } else if limits.upstream.is_some() {
            return Err(invalid(
                "limits.upstream",
                "the engine forwards nothing; leave it out, or set upstream to aws",
            ));
        }
        limits.check()?;
        Ok(Some(limits))
    }

    /// Whether anything limits callers.
    pub fn limit_callers(&self) -> bool {
        let everybody = Self {
            shadow: self.shadow,
            max_callers: self.max_callers,
            costs: self.costs.clone(),
            upstream: self.upstream.clone(),
            ..Self::default()
        };
        *self != everybody
    }

    fn check(&self) -> Result<(), ConfigError> {
        if !(1..=MOST_CALLERS).contains(&self.max_callers) {
            let problem = format!("at least 1 and at most {MOST_CALLERS}");
            return Err(invalid("limits.max-callers", problem));
        }
        let classes = |section: [(&'static str, Option<Quota>); 3]| {
            section
                .into_iter()
                .try_for_each(|(name, quota)| quota.map_or(Ok(()), |quota| sound(name, quota)))
        };
        classes([
            ("limits.read", self.read),
            ("limits.write", self.write),
            ("limits.wait", self.wait),
        ])?;
        counts("limits.calls", self.calls)?;
        counts("limits.streams", self.streams)?;
        if let Some(total) = &self.total {
            counts("limits.total", total.calls)?;
            counts("limits.total", total.streams)?;
            if total.rate.is_some() != total.burst.is_some() {
                let problem = "rate and burst belong together: give both or neither";
                return Err(invalid("limits.total", problem));
            }
            total
                .quota()
                .map_or(Ok(()), |quota| sound("limits.total", quota))?;
        }
        self.check_overrides()?;
        self.check_costs()?;
        self.upstream.as_ref().map_or(Ok(()), UpstreamLimits::check)
    }

    fn check_overrides(&self) -> Result<(), ConfigError> {
        const NAME: &str = "limits.overrides";
        let mut seen = HashSet::new();
        for these in &self.overrides {
            let whom = match (&these.principal, &these.role) {
                (Some(principal), None) => ("principal", principal),
                (None, Some(role)) => ("role", role),
                _ => {
                    let problem = "each is for a principal or for a role: give one of the two";
                    return Err(invalid(NAME, problem));
                }
            };
            if whom.1.is_empty() {
                let problem = format!("the {} has no name; name one", whom.0);
                return Err(invalid(NAME, problem));
            }
            let nothing = Override {
                principal: these.principal.clone(),
                role: these.role.clone(),
                ..Override::default()
            };
            if *these == nothing {
                let problem = format!(
                    "the one for the {} {:?} says no limit; give at least one, or leave it out",
                    whom.0, whom.1
                );
                return Err(invalid(NAME, problem));
            }
            if !seen.insert(whom) {
                let problem = format!("there are two for the {} {:?}", whom.0, whom.1);
                return Err(invalid(NAME, problem));
            }
            for quota in [these.read, these.write, these.wait].into_iter().flatten() {
                sound(NAME, quota)?;
            }
            counts(NAME, these.calls)?;
            counts(NAME, these.streams)?;
        }
        Ok(())
    }

    /// What costs more than a burst could never be called.
    fn check_costs(&self) -> Result<(), ConfigError> {
        const NAME: &str = "limits.costs";
        for (rpc, cost) in &self.costs {
            let Some(known) = Rpc::of(rpc) else {
                return Err(invalid(NAME, format!("there is no rpc {rpc:?}")));
            };
            if Operation::from_name(rpc).is_some_and(|operation| operation.policy().relieves) {
                let problem = format!("{rpc} ends work and is never limited; leave it out");
                return Err(invalid(NAME, problem));
            }
            let bursts = self.overrides.iter().map(|these| match known.class {
                Class::Read => these.read,
                Class::Write => these.write,
                Class::Wait => these.wait,
            });
            let everybody = match known.class {
                Class::Read => self.read,
                Class::Write => self.write,
                Class::Wait => self.wait,
            };
            let total = self.total.as_ref().and_then(Total::quota);
            let least = bursts
                .chain([everybody, total])
                .flatten()
                .map(|quota| quota.burst)
                .min();
            if least.is_some_and(|burst| burst < *cost) {
                let problem =
                    format!("{rpc} costs {cost}, which is more than a burst that it is taken from");
                return Err(invalid(NAME, problem));
            }
        }
        Ok(())
    }
}

impl UpstreamLimits {
    fn check(&self) -> Result<(), ConfigError> {
        const NAME: &str = "limits.upstream";
        if !(1 <= self.min
            && self.min <= self.start
            && self.start <= self.max
            && self.max <= 10_000)
        {
            let problem = "min, start and max must rise in this order, from 1 to 10000";
            return Err(invalid(NAME, problem));
        }
        if self.queue > 100_000 {
            return Err(invalid(NAME, "queue: at most 100000"));
        }
        if self.queue_time.0 > LONGEST_SPAN {
            return Err(invalid(NAME, "queue-time: at most 365days"));
        }
        if !(Duration::from_millis(1)..=LONGEST_SPAN).contains(&self.slow_call.0) {
            return Err(invalid(NAME, "slow-call: at least 1ms and at most 365days"));
        }
        Ok(())
    }
}

fn sound(name: &'static str, quota: Quota) -> Result<(), ConfigError> {
    if (1..=MOST).contains(&quota.burst) {
        return Ok(());
    }
    Err(invalid(
        name,
        format!("burst: at least 1 and at most {MOST}"),
    ))
}

fn counts(name: &'static str, count: Option<u32>) -> Result<(), ConfigError> {
    match count {
        Some(0) => Err(invalid(
            name,
            "0 would refuse everything; leave it out for no limit",
        )),
        Some(MOST..) => Err(invalid(name, format!("less than {MOST}"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Options};
    use super::*;

    fn from_file(text: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(Options::default(), Some(file.path()))
    }

    const WHOLE: &str = r#"
        [limits]
        shadow = true
        calls = 20
        read = { rate = "50/s", burst = 100 }
        [limits.total]
        rate = "1000/s"
        burst = 2000
        [limits.costs]
        ListServices = 5
        [[limits.overrides]]
        role = "administrator"
        write = { rate = "6/m", burst = 50 }
    "#;

    #[test]
    fn callers_are_not_limited_unless_it_is_asked_for() {
        assert_eq!(from_file("").unwrap().limits, None);
        let forwarding = from_file("upstream = \"aws\"").unwrap().limits.unwrap();
        assert!(!forwarding.limit_callers());
        assert!(forwarding.upstream.unwrap().enabled);
        let whole = from_file(WHOLE).unwrap().limits.unwrap();
        assert!(whole.limit_callers());
        assert_eq!(
            whole.read.unwrap().rate.interval(),
            Duration::from_millis(20)
        );
    }

    #[test]
    fn the_section_can_be_read_back_as_a_file() {
        for text in [WHOLE.to_owned(), format!("upstream = \"aws\"\n{WHOLE}")] {
            let config = from_file(&text).unwrap();
            let again = from_file(&toml::to_string(&config).unwrap()).unwrap();
            assert_eq!(again, config);
        }
    }

    #[test]
    fn what_could_not_be_meant_is_refused_by_its_name() {
        for (name, text) in [
            ("limits.max-callers", "max-callers = 0"),
            ("limits.calls", "calls = 0"),
            ("limits.read", "read = { rate = \"1/s\", burst = 0 }"),
            ("limits.total", "total = { rate = \"1/s\" }"),
            ("limits.total", "total = { streams = 0 }"),
            ("limits.costs", "costs = { GetEverything = 2 }"),
            (
                "limits.costs",
                "read = { rate = \"1/s\", burst = 4 }\ncosts = { GetService = 5 }",
            ),
            ("limits.overrides", "overrides = [{ calls = 1 }]"),
            (
                "limits.overrides",
                "overrides = [{ role = \"a\", calls = 1 }, { role = \"a\", calls = 2 }]",
            ),
            ("limits.overrides", "overrides = [{ role = \"a\" }]"),
            (
                "limits.overrides",
                "overrides = [{ role = \"\", calls = 1 }]",
            ),
            (
                "limits.overrides",
                "overrides = [{ principal = \"\", calls = 1 }]",
            ),
            (
                "limits.costs",
                "costs = { CancelServiceInstanceDeployment = 1 }",
            ),
            ("limits.upstream", "upstream = {}"),
        ] {
            let error = from_file(&format!("[limits]\n{text}")).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with(&format!("{name}: ")), "{text}: {error}");
        }
        let forwarding = "upstream = \"aws\"\n[limits.upstream]\nmin = 9\nstart = 8";
        let error = from_file(forwarding).unwrap_err().to_string();
        assert!(error.starts_with("limits.upstream: "), "{error}");
        for rate in ["50", "0/s", "1/d", "-1/s", "2000000/s", "1.5/s"] {
            let text = format!("[limits]\nread = {{ rate = \"{rate}\", burst = 1 }}");
            let error = from_file(&text).unwrap_err().to_string();
            assert!(error.contains("no rate like 50/s"), "{rate}: {error}");
        }
    }
}
