//! How much callers may ask for: each principal by itself, and all together.
//!
//! Decides and keeps count. Who asks when is in `pipeline::limit` (calls) and [`crate::admission`]
//! (streams); what is asked of the upstream is bounded in `backend::aws::pace`.

mod bucket;
mod callers;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use self::bucket::{Bucket, Quota, nanos};
use self::callers::{Caller, Callers, Remembered};
use crate::api::{Class, Rpc};
use crate::auth::{Method, Principal};
use crate::config::limits::{Limits, Override, Total};
use crate::error::{Error, ErrorKind, Origin, Result};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::watched;

/// When to come back where it depends on when others end.
const LATER: Duration = Duration::from_secs(1);
/// Open streams of one known caller, and of all together, where the configuration says nothing. Each takes
/// up to 40 KiB, and they stay: all together remain below the memory that deployments have by default.
const STREAMS: [u32; 2] = [2_500, 10_000];
/// How often it is said that callers find no room.
const REMINDER: Duration = Duration::from_secs(60);

/// Decides who may call. Clones share the counts.
#[derive(Clone)]
pub struct Limiter(Arc<State>);

struct State {
    born: Instant,
    rules: ArcSwap<Rules>,
    callers: Callers,
    total: Bucket,
    /// Of all callers together.
    counts: [AtomicU32; 2],
    /// When it was said last that callers find no room.
    reminded: AtomicU64,
    metrics: Metrics,
}

/// What the configuration says.
struct Rules {
    shadow: bool,
    everybody: Tier,
    principals: HashMap<String, Tier>,
    /// The first that fits holds.
    roles: Vec<(String, Tier)>,
    costs: HashMap<String, u32>,
    total_quota: Option<Quota>,
    total_caps: [Option<u32>; 2],
}

/// The limits of a principal.
#[derive(Debug, Clone)]
struct Tier {
    /// By class.
    quotas: [Option<Quota>; 3],
    /// By kind of place.
    caps: [Option<u32>; 2],
}

/// What is counted while it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Call,
    Stream,
}

/// What an rpc takes, and of whom it is asked.
struct Asked<'a> {
    rpc: &'static Rpc,
    place: Place,
    principal: &'a Principal,
}

/// Why a call is refused, before it is known whether only for show.
struct Refusal {
    limit: &'static str,
    retry_after: Duration,
    message: String,
    /// Nobody has asked for the limit, so that it is not for show.
    unasked: bool,
}

impl Limiter {
    /// A limiter after `limits`, if they limit callers at all.
    pub fn new(limits: &Limits, metrics: Metrics) -> Option<Self> {
        limits.limit_callers().then(|| {
            let limiter = Self::of(limits, metrics);
            let state = Arc::downgrade(&limiter.0);
            let callers = move || u64::try_from(state.upgrade()?.callers.count()).ok();
            limiter.0.metrics.watch(watched::LIMIT_CALLERS, callers);
            limiter
        })
    }

    /// What bounds streams where nothing limits callers.
    pub fn of_streams(metrics: Metrics) -> Self {
        Self::of(&Limits::default(), metrics)
    }

    fn of(limits: &Limits, metrics: Metrics) -> Self {
        Self(Arc::new(State {
            born: Instant::now(),
            rules: ArcSwap::from_pointee(Rules::of(limits)),
            callers: Callers::at_most(limits.max_callers),
            total: Bucket::default(),
            counts: Default::default(),
            reminded: AtomicU64::new(0),
            metrics,
        }))
    }

    /// Other limits hold from now on, for all that callers have used already. How many callers are
    /// remembered stays as it is.
    pub fn change(&self, limits: &Limits) {
        self.0.rules.store(Arc::new(Rules::of(limits)));
    }

    /// Lets a call begin, or says whose limit it is that forbids it. What is held counts until it
    /// is dropped.
    pub fn call(&self, rpc: &'static Rpc, principal: &Principal) -> Result<Held> {
        self.admit(&Asked {
            rpc,
            place: Place::Call,
            principal,
        })
    }

    /// The same for a stream.
    pub fn stream(&self, rpc: &'static Rpc, principal: &Principal) -> Result<Held> {
        self.admit(&Asked {
            rpc,
            place: Place::Stream,
            principal,
        })
    }

    /// How many callers are remembered.
    pub fn remembered(&self) -> usize {
        self.0.callers.count()
    }

    fn admit(&self, asked: &Asked<'_>) -> Result<Held> {
        let state = &self.0;
        // The gateway's own polls answer callers that were limited when they came.
        if asked.principal.method == Method::Gateway {
            return Ok(Held(None));
        }
        let now = nanos(state.born.elapsed());
        let Remembered { caller, shared } = state.callers.get(&asked.principal.id, now);
        if shared {
            state.remind(now);
        }
        let place = asked.place;
        let before = [
            caller.counts()[place as usize],
            &state.counts[place as usize],
        ]
        .map(|count| count.fetch_add(1, Ordering::Relaxed));
        // From here on dropping it gives the place back.
        let holding = Holding {
            limiter: self.clone(),
            caller,
            place,
        };
        let rules = state.rules.load();
        if let Err(refusal) = state.verdict(&rules, asked, &holding.caller, before, now) {
            state.refuse(rules.shadow && !refusal.unasked, asked, refusal)?;
        }
        Ok(Held(Some(holding)))
    }
}

impl State {
    /// `before`: how many places the caller, and all callers, had already.
    fn verdict(
        &self,
        rules: &Rules,
        asked: &Asked<'_>,
        caller: &Caller,
        before: [u32; 2],
        now: u64,
    ) -> std::result::Result<(), Refusal> {
        let tier = rules.tier(asked.principal);
        let place = asked.place;
        let unasked = place.unasked(asked.principal);
        let places = [
            (
                tier.caps[place as usize],
                unasked[0],
                before[0],
                place.limits()[0],
                "this caller",
            ),
            (
                rules.total_caps[place as usize],
                unasked[1],
                before[1],
                place.limits()[1],
                "the gateway",
            ),
        ];
        for (given, unasked, taken, limit, whose) in places {
            if let Some(cap) = given.or(unasked).filter(|cap| taken >= *cap) {
                return Err(Refusal {
                    limit,
                    retry_after: LATER,
                    unasked: given.is_none(),
                    message: format!(
                        "{whose} has its {cap} {} at the same time already; nothing was changed",
                        place.name()
                    ),
                });
            }
        }
        let class = asked.rpc.class;
        let cost = rules.costs.get(asked.rpc.method).copied().unwrap_or(1);
        let own = &caller.buckets[class as usize];
        let quota = tier.quotas[class as usize];
        // One's own first: whoever exceeds it takes nothing from the others.
        if let Some(quota) = quota {
            own.take(quota, cost, now).map_err(|wait| Refusal {
                limit: rate_limit(class),
                retry_after: whole_millis(wait),
                unasked: false,
                message: format!(
                    "this caller's limit of {} calls is used up for the moment; nothing was changed",
                    class.name()
                ),
            })?;
        }
        if let Some(total) = rules.total_quota {
            self.total.take(total, cost, now).map_err(|wait| {
                if let Some(quota) = quota {
                    own.give_back(quota, cost);
                }
                Refusal {
                    limit: "total/rate",
                    retry_after: whole_millis(wait),
                    unasked: false,
                    message: "the limit of all callers together is used up for the moment; nothing was changed".to_owned(),
                }
            })?;
        }
        Ok(())
    }

    /// Nothing where limits are in the shadow.
    fn refuse(&self, shadow: bool, asked: &Asked<'_>, refusal: Refusal) -> Result<()> {
        let (rpc, limit) = (asked.rpc, refusal.limit);
        self.metrics.limited(rpc.class.name(), limit, shadow);
        if shadow {
            tracing::info!(
                principal = asked.principal.id,
                rpc = rpc.method,
                limit,
                "a limit in the shadow would have refused a call"
            );
            return Ok(());
        }
        let kind = ErrorKind::Throttled {
            origin: Origin::Gateway,
            limit,
            retry_after: refusal.retry_after,
        };
        Err(Error::new(kind, refusal.message))
    }

    fn remind(&self, now: u64) {
        let last = self.reminded.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= nanos(REMINDER);
        // One of all that notice says it.
        let mine = due
            && self
                .reminded
                .compare_exchange(last, now.max(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if mine {
            tracing::warn!(
                "more callers are busy than limits.max-callers remembers; those beyond share one caller's limits"
            );
        }
    }
}

impl Rules {
    fn of(limits: &Limits) -> Self {
        let everybody = Tier {
            quotas: [limits.read, limits.write, limits.wait].map(|quota| quota.map(Quota::from)),
            caps: [limits.calls, limits.streams],
        };
        let tier = |these: &Override| everybody.with(these);
        let total = limits.total.clone().unwrap_or_default();
        let for_principal = |these: &Override| Some((these.principal.clone()?, tier(these)));
        let for_role = |these: &Override| Some((these.role.clone()?, tier(these)));
        Self {
            shadow: limits.shadow,
            principals: limits.overrides.iter().filter_map(for_principal).collect(),
            roles: limits.overrides.iter().filter_map(for_role).collect(),
            costs: limits.costs.clone().into_iter().collect(),
            total_quota: Total::quota(&total).map(Quota::from),
            total_caps: [total.calls, total.streams],
            everybody,
        }
    }

    fn tier(&self, principal: &Principal) -> &Tier {
        self.principals.get(&principal.id).unwrap_or_else(|| {
            let fits = |(role, _): &&(String, Tier)| principal.roles.contains(role);
            self.roles
                .iter()
                .find(fits)
                .map_or(&self.everybody, |(_, tier)| tier)
        })
    }
}

impl Tier {
    fn with(&self, these: &Override) -> Self {
        let [read, write, wait] = self.quotas;
        let [calls, streams] = self.caps;
        Self {
            quotas: [
                these.read.map(Quota::from).or(read),
                these.write.map(Quota::from).or(write),
                these.wait.map(Quota::from).or(wait),
            ],
            caps: [these.calls.or(calls), these.streams.or(streams)],
        }
    }
}

impl Caller {
    fn counts(&self) -> [&AtomicU32; 2] {
        [&self.calls, &self.streams]
    }
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::Call => "calls",
            Self::Stream => "streams",
        }
    }

    /// What bounds a caller, and all, where the configuration does not. Where nobody is known there is
    /// nobody to tell apart.
    fn unasked(self, principal: &Principal) -> [Option<u32>; 2] {
        let known = principal.method != Method::Anonymous;
        match self {
            Self::Call => [None, None],
            Self::Stream => [known.then_some(STREAMS[0]), Some(STREAMS[1])],
        }
    }

    /// Of the caller, and of all.
    fn limits(self) -> [&'static str; 2] {
        match self {
            Self::Call => ["caller/calls", "total/calls"],
            Self::Stream => ["caller/streams", "total/streams"],
        }
    }
}

fn rate_limit(class: Class) -> &'static str {
    match class {
        Class::Read => "caller/read",
        Class::Write => "caller/write",
        Class::Wait => "caller/wait",
    }
}

/// Rounded up: whoever comes back then is let in.
fn whole_millis(span: Duration) -> Duration {
    let millis = span.as_nanos().div_ceil(1_000_000).max(1);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// A place, given back when dropped. Empty for the gateway itself.
#[must_use]
pub struct Held(#[expect(dead_code, reason = "it is kept to be dropped")] Option<Holding>);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

struct Holding {
    limiter: Limiter,
    caller: Arc<Caller>,
    place: Place,
}

impl Drop for Holding {
    fn drop(&mut self) {
        let place = self.place as usize;
        self.caller.counts()[place].fetch_sub(1, Ordering::Relaxed);
        self.limiter.0.counts[place].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
