//! What a caller wants of the cache, and what its answer says of it.

use std::time::Duration;

use http::{HeaderMap, header};

/// The metadata, and the header of the AWS door, that says whence an answer came.
pub const CACHE_STATUS: &str = "cache-status";
/// Its age in seconds.
pub const AGE: &str = "age";

/// The directives of `cache-control` (RFC 9111) that are known here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// Nothing that was read before.
    pub no_cache: bool,
    /// Nothing older than this.
    pub max_age: Option<Duration>,
    /// Nothing that would have to be read.
    pub only_if_cached: bool,
}

impl Demand {
    /// What the gateway wants that is about to change something.
    pub const FRESH: Self = Self {
        no_cache: true,
        max_age: None,
        only_if_cached: false,
    };

    /// Other directives are left alone.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut demand = Self::default();
        let lists = headers.get_all(header::CACHE_CONTROL).iter();
        let directives = lists
            .filter_map(|list| list.to_str().ok())
            .flat_map(|list| list.split(','));
        for directive in directives {
            let (name, value) = match directive.split_once('=') {
                Some((name, value)) => (name.trim(), value.trim().trim_matches('"')),
                None => (directive.trim(), ""),
            };
            match name.to_ascii_lowercase().as_str() {
                "no-cache" => demand.no_cache = true,
                "only-if-cached" => demand.only_if_cached = true,
                "max-age" => {
                    // What cannot be read may have meant anything: then nothing is fresh enough.
                    let age = Duration::from_secs(value.parse().unwrap_or(0));
                    let age = demand.max_age.map_or(age, |other| other.min(age));
                    demand.max_age = Some(age);
                }
                _ => {}
            }
        }
        demand
    }

    /// Whether an answer of this age will do.
    pub fn takes(&self, age: Duration) -> bool {
        !self.no_cache && self.max_age.is_none_or(|most| age < most)
    }
}

/// Whence an answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It was kept.
    Hit,
    /// The backend was asked.
    Miss,
    /// The backend was asked, and the answer is not kept.
    Bypass,
    /// The backend was being asked by another call.
    Coalesced,
    /// It was kept, and its time is over: the backend is being asked, or fails.
    Stale,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
            Self::Coalesced => "coalesced",
            Self::Stale => "stale",
        }
    }
}

/// What an answer says of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    pub status: Status,
    /// Since the backend was asked.
    pub age: Duration,
}

impl Served {
    pub fn new(status: Status, age: Duration) -> Self {
        Self { status, age }
    }

    /// The names and the values that both doors add to an answer.
    pub fn headers(&self) -> [(&'static str, String); 2] {
        [
            (CACHE_STATUS, self.status.name().to_owned()),
            (AGE, self.age.as_secs().to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(lists: &[&str]) -> Demand {
        let mut headers = HeaderMap::new();
        for list in lists {
            headers.append(header::CACHE_CONTROL, list.parse().unwrap());
        }
        Demand::of(&headers)
    }

    #[test]
    fn directives_are_read_from_all_lists_in_any_case_and_others_are_left_alone() {
        let read = demand(&[
            "No-Cache , stale-if-error=5",
            "max-age=\"7\", only-if-cached",
        ]);
        let all = Demand {
            no_cache: true,
            max_age: Some(Duration::from_secs(7)),
            only_if_cached: true,
        };
        assert_eq!(read, all);
        assert_eq!(demand(&["no-transform", ""]), Demand::default());
    }

    #[test]
    fn the_strictest_age_holds_and_one_that_cannot_be_read_is_none_at_all() {
        assert_eq!(
            demand(&["max-age=9, max-age=3"]).max_age.unwrap().as_secs(),
            3
        );
        for unreadable in ["max-age", "max-age=soon", "max-age=-1"] {
            let read = demand(&[unreadable]);
            assert!(!read.takes(Duration::ZERO), "{unreadable}");
        }
    }
}
