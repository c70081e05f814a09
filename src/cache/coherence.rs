//! Whether something may have changed since a read began.
//!
//! A mark stands for a time during which nothing is known to have changed. What was read under one
//! mark holds as long as the mark is the same. While something is changing there is none, and
//! nothing is used or kept.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::api::Policy;

/// How long what a mutation touches is in doubt after its caller went away or its outcome became
/// unknown: the upstream may still apply it. No call takes longer.
pub const DOUBT: Duration = crate::edge::DEFAULT_DEADLINE;

/// Counts the changes of a store; absent while one is being made.
pub type Version = dyn Fn() -> Option<u64> + Send + Sync;

type Upstream = Option<Arc<str>>;

/// What is known of changes. Clones share it.
#[derive(Clone)]
pub enum Coherence {
    /// The store knows of each change, whoever made it.
    Exact(Arc<Version>),
    /// Known are the mutations that go through this gateway, and what its waits see.
    Observed(Arc<Mutex<Marks>>),
}

#[derive(Debug, Default)]
pub struct Marks {
    kinds: HashMap<(Upstream, &'static str), Mark>,
    /// Changes of which the kind is not known.
    whole: HashMap<Upstream, u64>,
}

#[derive(Debug, Default)]
struct Mark {
    changes: u64,
    under_way: usize,
    doubted_until: Option<Instant>,
}

impl Coherence {
    pub fn observed() -> Self {
        Self::Observed(Arc::default())
    }

    /// The mark of resources of one kind.
    pub fn mark(&self, upstream: Option<&Arc<str>>, kind: &'static str) -> Option<u64> {
        let marks = match self {
            Self::Exact(version) => return version(),
            Self::Observed(marks) => locked(marks),
        };
        let upstream = upstream.cloned();
        // Each only grows: the sum is the same only if both are.
        let whole = marks.whole.get(&upstream).copied().unwrap_or(0);
        let Some(mark) = marks.kinds.get(&(upstream, kind)) else {
            return Some(whole);
        };
        let doubted = mark.doubted_until.is_some_and(|end| Instant::now() < end);
        (mark.under_way == 0 && !doubted).then_some(whole + mark.changes)
    }

    /// Begins a mutation of an operation with this policy.
    pub fn mutate(&self, upstream: Upstream, policy: &'static Policy) -> Mutation {
        let mutation = Mutation {
            coherence: self.clone(),
            upstream,
            policy,
            in_doubt: true,
        };
        mutation.each(|mark| {
            mark.changes += 1;
            mark.under_way += 1;
        });
        mutation
    }

    /// Something of an upstream has changed, and it is not known what.
    pub fn changed(&self, upstream: Option<&Arc<str>>) {
        if let Self::Observed(marks) = self {
            *locked(marks).whole.entry(upstream.cloned()).or_default() += 1;
        }
    }
}

fn locked(marks: &Mutex<Marks>) -> MutexGuard<'_, Marks> {
    marks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mutation under way. What it touches stays in doubt if it is dropped before its end.
pub struct Mutation {
    coherence: Coherence,
    upstream: Upstream,
    policy: &'static Policy,
    in_doubt: bool,
}

impl Mutation {
    /// It was applied or refused, and nothing of it comes later.
    pub fn settle(mut self) {
        self.in_doubt = false;
    }

    fn each(&self, change: impl Fn(&mut Mark)) {
        let Coherence::Observed(marks) = &self.coherence else {
            return;
        };
        let mut marks = locked(marks);
        let touched = self.policy.touches.iter().copied();
        let kinds: BTreeSet<_> = touched.chain([self.policy.resource]).collect();
        for kind in kinds {
            let mark = marks.kinds.entry((self.upstream.clone(), kind));
            change(mark.or_default());
        }
    }
}

impl Drop for Mutation {
    fn drop(&mut self) {
        let doubt = self.in_doubt.then(|| Instant::now() + DOUBT);
        self.each(|mark| {
            mark.changes += 1;
            mark.under_way = mark.under_way.saturating_sub(1);
            mark.doubted_until = mark.doubted_until.max(doubt);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Operation;

    fn mutate(coherence: &Coherence, upstream: Option<&str>) -> Mutation {
        let policy = Operation::UpdateEnvironment.policy();
        coherence.mutate(upstream.map(Arc::from), policy)
    }

    #[test]
    fn a_mutation_ends_the_mark_of_what_it_touches_and_of_nothing_else() {
        let coherence = Coherence::observed();
        let marks = |upstream: Option<Arc<str>>| {
            ["environment", "deployment", "service"]
                .map(|kind| coherence.mark(upstream.as_ref(), kind))
        };
        let (before, elsewhere) = (marks(None), marks(Some("b".into())));
        let mutation = mutate(&coherence, None);
        let [environment, deployment, service] = marks(None);
        assert_eq!((environment, deployment, service), (None, None, before[2]));
        mutation.settle();
        let after = marks(None);
        assert!(after[0].is_some() && after[0] != before[0]);
        assert!(after[1].is_some() && after[1] != before[1]);
        assert_eq!(after[2], before[2]);
        assert_eq!(marks(Some("b".into())), elsewhere);
    }

    #[test]
    fn there_is_no_mark_before_the_last_of_several_mutations_has_ended() {
        let coherence = Coherence::observed();
        let (one, other) = (mutate(&coherence, None), mutate(&coherence, None));
        one.settle();
        assert_eq!(coherence.mark(None, "environment"), None);
        other.settle();
        assert!(coherence.mark(None, "environment").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_mutation_that_is_given_up_leaves_doubt_for_as_long_as_it_may_still_be_applied() {
        let coherence = Coherence::observed();
        let before = coherence.mark(None, "environment");
        drop(mutate(&coherence, None));
        // One that settles meanwhile does not end the doubt.
        mutate(&coherence, None).settle();
        tokio::time::advance(DOUBT - Duration::from_millis(1)).await;
        assert_eq!(coherence.mark(None, "environment"), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        let after = coherence.mark(None, "environment");
        assert!(after.is_some() && after != before);
    }

    #[test]
    fn a_change_of_unknown_kind_ends_all_marks_of_its_upstream() {
        let coherence = Coherence::observed();
        let other = Arc::from("b");
        let before = coherence.mark(None, "service");
        let elsewhere = coherence.mark(Some(&other), "service");
        coherence.changed(None);
        assert_ne!(coherence.mark(None, "service"), before);
        assert_eq!(coherence.mark(Some(&other), "service"), elsewhere);
    }
}
