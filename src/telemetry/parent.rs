//! The trace context of a request, as its headers say it (W3C Trace Context).
//!
//! What is malformed is ignored, as the standard has it. What is not recorded here is passed on as
//! it came.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The longest list of states that is passed on, in bytes; the standard asks for 512.
const LONGEST_STATE: usize = 8 * 1024;

/// What names a span, in logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    pub trace: TraceId,
    pub span: SpanId,
}

/// The span of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    pub ids: Ids,
    pub sampled: bool,
    /// As it came; read only where it is needed.
    state: Option<HeaderValue>,
}

impl Parent {
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let parent = parents.next()?;
        if parents.next().is_some() {
            return None;
        }
        let (ids, sampled) = parse(parent.as_bytes())?;
        Some(Self {
            ids,
            sampled,
            state: state(headers),
        })
    }

    /// The headers that pass it on.
    pub fn headers(&self) -> Headers {
        Headers {
            parent: written(self.ids, self.sampled),
            state: self.state.clone(),
        }
    }

    /// As the parent of a span of ours.
    pub fn context(&self) -> SpanContext {
        let flags = TraceFlags::default().with_sampled(self.sampled);
        let state = self.state.as_ref().and_then(|state| state.to_str().ok());
        let state: Option<TraceState> = state.and_then(|state| state.parse().ok());
        let Ids { trace, span } = self.ids;
        SpanContext::new(trace, span, flags, true, state.unwrap_or_default())
    }
}

/// What a request upstream carries.
#[derive(Debug, Clone)]
pub struct Headers {
    pub parent: String,
    pub state: Option<HeaderValue>,
}

impl Headers {
    pub fn of(context: &SpanContext) -> Self {
        let ids = Ids {
            trace: context.trace_id(),
            span: context.span_id(),
        };
        let state = context.trace_state().header();
        Self {
            parent: written(ids, context.is_sampled()),
            state: (!state.is_empty())
                .then(|| HeaderValue::from_str(&state).ok())
                .flatten(),
        }
    }
}

fn written(Ids { trace, span }: Ids, sampled: bool) -> String {
    format!("00-{trace}-{span}-0{}", u8::from(sampled))
}

/// Several headers are one list.
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut states = headers.get_all(TRACESTATE).iter();
    let first = states.next()?;
    let rest: Vec<_> = states.map(HeaderValue::as_bytes).collect();
    let joined = match rest.is_empty() {
        true => first.clone(),
        false => {
            let all = [vec![first.as_bytes()], rest].concat().join(&b","[..]);
            HeaderValue::from_bytes(&all).ok()?
        }
    };
    (joined.len() <= LONGEST_STATE && !joined.is_empty()).then_some(joined)
}

/// Reads `00-<trace>-<span>-<flags>`. A later version may go on after that.
fn parse(text: &[u8]) -> Option<(Ids, bool)> {
    let (known, rest) = text.split_at_checked(55)?;
    let dashes = [2, 35, 52].iter().all(|index| known[*index] == b'-');
    let version = number(&known[..2])?;
    let ends = match version {
        0xff => false,
        0 => rest.is_empty(),
        _ => rest.is_empty() || rest[0] == b'-',
    };
    let trace = TraceId::from(number(&known[3..35])?);
    let span = SpanId::from(u64::try_from(number(&known[36..52])?).ok()?);
    let flags = number(&known[53..])?;
    let valid = trace != TraceId::INVALID && span != SpanId::INVALID;
    (dashes && ends && valid).then_some((Ids { trace, span }, flags & 1 == 1))
}

/// Lower case only, and nothing else than digits.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn read(parents: &[&str], states: &[&str]) -> Option<Parent> {
        let mut headers = HeaderMap::new();
        for parent in parents {
            headers.append(TRACEPARENT, parent.parse().unwrap());
        }
        for state in states {
            headers.append(TRACESTATE, state.parse().unwrap());
        }
        Parent::of(&headers)
    }

    #[test]
    fn a_context_is_passed_on_as_it_came() {
        let parent = read(&[GOOD], &["a=1", "b=2"]).unwrap();
        assert!(parent.sampled);
        assert_eq!(parent.headers().parent, GOOD);
        assert_eq!(parent.headers().state.unwrap(), "a=1,b=2");
        let context = Headers::of(&parent.context());
        assert_eq!(context.parent, GOOD);
        assert_eq!(context.state.unwrap(), "a=1,b=2");
    }

    #[test]
    fn flags_and_versions_that_are_not_known_are_left_out() {
        let later = GOOD.replacen("00", "cc", 1).replace("-01", "-ff-more");
        assert_eq!(read(&[&later], &[]).unwrap().headers().parent, GOOD);
        let other = GOOD.replace("-01", "-02");
        assert!(!read(&[&other], &[]).unwrap().sampled);
    }

    #[test]
    fn what_is_malformed_is_ignored() {
        for wrong in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-"),
            &format!("{GOOD}0"),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replacen("00", "cc", 1).replace("-01", "-01.more"),
            &GOOD.to_uppercase(),
            &GOOD.replace("0af7", "+af7"),
            &GOOD.replace('-', "_"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ] {
            assert_eq!(read(&[wrong], &["a=1"]), None, "{wrong}");
        }
        assert_eq!(read(&[GOOD, GOOD], &[]), None);
        assert_eq!(read(&[], &["a=1"]), None);
    }

    #[test]
    fn a_state_that_cannot_be_read_does_not_harm_its_parent() {
        let parent = read(&[GOOD], &["no list"]).unwrap();
        assert_eq!(Headers::of(&parent.context()).parent, GOOD);
        let long = "a=".to_owned() + &"x".repeat(LONGEST_STATE);
        assert!(read(&[GOOD], &[&long]).unwrap().headers().state.is_none());
    }
}
