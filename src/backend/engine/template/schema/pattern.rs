//! Patterns of strings: matching them, and what matching one may cost.
//!
//! A pattern without look-around and back-references is matched in time linear in the string. All
//! others are matched by trying one way after the other, which may take any time at all. So each
//! pattern is read once more here, to tell before a match how many steps it may take at most.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{Draft, Keyword, PatternOptions, ValidationError, Validator};
use serde_json::{Value, json};

/// Ways that a pattern with look-around may try in vain before the match is given up.
const BACKTRACK_LIMIT: usize = 2_000;

/// The size of a compiled pattern.
const PATTERN_BYTES: usize = 1024 * 1024;

/// The states that a pattern may have, counted roughly, before it is compiled at all.
const MAX_STATES: f64 = 20_000.0;

/// How deep groups may be nested.
const MAX_DEPTH: usize = 64;

/// States of one character of which it is only known what it is not.
const WIDE: f64 = 8.0;

/// States of a Unicode class.
const UNICODE: f64 = 400.0;

pub(super) const TOO_LONG: &str = "takes too long to match against its pattern";

thread_local! {
    /// Whether a match on this thread was given up: inside `not` or `anyOf` its outcome must not
    /// pass for a mismatch.
    static GAVE_UP: Cell<bool> = const { Cell::new(false) };
}

/// Runs a check and says whether a match in it was given up.
pub(super) fn noticing<R>(check: impl FnOnce() -> R) -> (R, bool) {
    GAVE_UP.set(false);
    let outcome = check();
    (outcome, GAVE_UP.get())
}

/// The patterns of a schema file.
pub(super) type Patterns = HashMap<String, Arc<Pattern>>;

pub(super) struct Pattern {
    text: String,
    matcher: Validator,
    node: Node,
    hard: bool,
    states: f64,
}

/// Without the text, which is part of a sensitive schema.
impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pattern").finish_non_exhaustive()
    }
}

impl Pattern {
    /// `None` if the text is not a pattern, or one that is too large.
    pub(super) fn new(text: &str) -> Option<Self> {
        let (node, hard) = Reader::read(text)?;
        let states = node.cost(f64::INFINITY).size;
        if states > MAX_STATES {
            return None;
        }
        let matcher = jsonschema::options()
            .with_draft(Draft::Draft4)
            .with_pattern_options(
                PatternOptions::fancy_regex()
                    .backtrack_limit(BACKTRACK_LIMIT)
                    .size_limit(PATTERN_BYTES),
            )
            .build(&json!({ "pattern": text }))
            .ok()?;
        Some(Self {
            text: text.to_owned(),
            matcher,
            node,
            hard,
            states,
        })
    }

    /// About as many states as it compiles to.
    pub(super) fn states(&self) -> usize {
        self.states as usize
    }

    /// How many steps a match against a string of so many bytes takes at most.
    pub(super) fn steps(&self, bytes: usize) -> usize {
        let length = bytes as f64;
        let cost = self.node.cost(length);
        let steps = if self.hard {
            // The search starts at each place anew.
            let tried = (length + 1.0) * cost.work;
            let limited = (BACKTRACK_LIMIT as f64 + length) * cost.forward;
            tried.min(limited)
        } else {
            (length + 1.0) * cost.size
        };
        // A cast of what is too large for the type gives its largest value.
        steps as usize
    }

    fn fits(&self, value: &Value) -> bool {
        if self.matcher.is_valid(value) {
            return true;
        }
        self.hard && self.gives_up(value) && {
            GAVE_UP.set(true);
            false
        }
    }

    fn gives_up(&self, value: &Value) -> bool {
        self.matcher.iter_errors(value).any(|error| {
            matches!(
                error.kind(),
                Kind::BacktrackLimitExceeded { .. } | Kind::RegexEngineFailure { .. }
            )
        })
    }
}

/// The keyword `pattern`.
pub(super) struct Matching(pub(super) Arc<Pattern>);

impl<'i> Keyword<'i> for Matching {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        if self.0.fits(instance) {
            return Ok(());
        }
        Err(ValidationError::custom(
            if self.0.hard && self.0.gives_up(instance) {
                TOO_LONG.to_owned()
            } else {
                format!("must match the pattern {}", self.0.text)
            },
        ))
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        self.0.fits(instance)
    }
}

/// A part of a pattern.
enum Node {
    /// One character, or a place, with the states it takes.
    One(f64),
    /// What an earlier group matched.
    Back,
    All(Vec<Node>),
    Either(Vec<Node>),
    Repeat(Box<Node>, f64, f64),
    Look(Box<Node>),
}

/// Bounds for a string of a given length.
struct Cost {
    /// States.
    size: f64,
    /// In how many ways it matches from one place.
    paths: f64,
    /// Steps to try all of these.
    work: f64,
    /// Steps along one of these.
    forward: f64,
    /// Steps along one that take no character.
    still: f64,
}

impl Node {
    fn cost(&self, length: f64) -> Cost {
        match self {
            Self::One(size) => Cost {
                size: *size,
                paths: 1.0,
                work: 1.0,
                forward: 1.0,
                still: 0.0,
            },
            Self::Back => Cost {
                size: 1.0,
                paths: 1.0,
                work: length + 1.0,
                forward: length + 1.0,
                still: length + 1.0,
            },
            Self::All(parts) => {
                let mut all = Cost {
                    size: 1.0,
                    paths: 1.0,
                    work: 1.0,
                    forward: 1.0,
                    still: 0.0,
                };
                for part in parts {
                    let part = part.cost(length);
                    all.size += part.size;
                    all.work += all.paths * part.work;
                    all.paths *= part.paths;
                    all.forward += part.forward;
                    all.still += part.still;
                }
                all
            }
            Self::Either(choices) => {
                let mut any = Cost {
                    size: 1.0,
                    paths: 0.0,
                    work: 1.0,
                    forward: 1.0,
                    still: 0.0,
                };
                for choice in choices {
                    let choice = choice.cost(length);
                    any.size += choice.size;
                    any.work += choice.work;
                    any.paths += choice.paths;
                    any.forward = any.forward.max(1.0 + choice.forward);
                    any.still = any.still.max(1.0 + choice.still);
                }
                any
            }
            Self::Repeat(inner, least, most) => {
                let inner = inner.cost(length);
                // More rounds than the string has characters match nothing.
                let rounds = most.min(length.max(*least) + 1.0);
                let states = if most.is_finite() {
                    rounds
                } else {
                    least + 1.0
                };
                let grown = inner.paths.powf(rounds);
                let (paths, tries) = if inner.paths > 1.0 {
                    (
                        grown * inner.paths,
                        (grown - 1.0) / (inner.paths - 1.0) * inner.paths,
                    )
                } else {
                    (rounds + 1.0, rounds)
                };
                let paths = if least == most && inner.paths <= 1.0 {
                    1.0
                } else {
                    paths
                };
                let still = 1.0 + inner.still;
                Cost {
                    size: 1.0 + inner.size * states.max(1.0),
                    paths,
                    work: 1.0 + tries.max(1.0) * inner.work,
                    forward: (rounds * inner.forward).min((length + 1.0) * still + inner.size)
                        + still,
                    still: still * (1.0 + least),
                }
            }
            Self::Look(inner) => {
                let inner = inner.cost(length);
                // The linear engine may do this part at once; it has the states to go through.
                let linear = (length + 1.0) * inner.size / 4.0;
                let forward = inner.forward.max(linear);
                Cost {
                    size: inner.size,
                    paths: 1.0,
                    work: inner.work.max(linear),
                    forward,
                    still: forward,
                }
            }
        }
    }
}

/// Reads the form of a pattern; whether it is one is for the regular expression engine to say.
struct Reader<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    depth: usize,
    hard: bool,
}

impl<'a> Reader<'a> {
    fn read(text: &'a str) -> Option<(Node, bool)> {
        let mut reader = Self {
            rest: text.chars().peekable(),
            depth: 0,
            hard: false,
        };
        let node = reader.choices()?;
        reader.rest.next().is_none().then_some((node, reader.hard))
    }

    fn taken(&mut self, expected: char) -> bool {
        self.rest.next_if_eq(&expected).is_some()
    }

    fn choices(&mut self) -> Option<Node> {
        let mut choices = vec![self.sequence()?];
        while self.taken('|') {
            choices.push(self.sequence()?);
        }
        if choices.len() == 1 {
            return choices.pop();
        }
        Some(Node::Either(choices))
    }

    fn sequence(&mut self) -> Option<Node> {
        let mut parts = Vec::new();
        while let Some(next) = self.rest.next_if(|next| !matches!(next, '|' | ')')) {
            let part = match next {
                '(' => self.group()?,
                '[' => Node::One(self.class()),
                '\\' => self.escape()?,
                '.' => Node::One(WIDE),
                _ => Node::One(1.0),
            };
            let part = self.quantified(part);
            parts.push(part);
        }
        Some(Node::All(parts))
    }

    fn quantified(&mut self, mut part: Node) -> Node {
        loop {
            let (least, most) = match self.rest.peek() {
                Some('*') => (0.0, f64::INFINITY),
                Some('+') => (1.0, f64::INFINITY),
                Some('?') => (0.0, 1.0),
                Some('{') => match self.counts() {
                    Some(counts) => counts,
                    None => return part,
                },
                _ => return part,
            };
            let counted = self.rest.next() == Some('{');
            if counted {
                while self.rest.next().is_some_and(|next| next != '}') {}
            }
            part = Node::Repeat(Box::new(part), least, most);
            // Lazy, or possessive: the first is no dearer, the second needs the other engine.
            if !self.taken('?') && self.taken('+') {
                self.hard = true;
            }
        }
    }

    /// What stands in the braces ahead, if that is numbers.
    fn counts(&self) -> Option<(f64, f64)> {
        let ahead: String = self
            .rest
            .clone()
            .skip(1)
            .take(24)
            .take_while(|next| *next != '}')
            .collect();
        let (least, most) = match ahead.split_once(',') {
            None => (ahead.as_str(), ahead.as_str()),
            Some((least, most)) => (least, most),
        };
        let number = |text: &str, empty: f64| match text.trim() {
            "" => Some(empty),
            text => text.parse::<u64>().ok().map(|number| number as f64),
        };
        if ahead.trim().is_empty() {
            return None;
        }
        Some((number(least, 0.0)?, number(most, f64::INFINITY)?))
    }

    fn group(&mut self) -> Option<Node> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let mut looks = false;
        if self.taken('?') {
            match self.rest.next()? {
                '=' | '!' | '>' => looks = true,
                '<' => {
                    looks = self
                        .rest
                        .next_if(|next| matches!(next, '=' | '!'))
                        .is_some();
                    if !looks {
                        while self.rest.next()? != '>' {}
                    }
                }
                ':' => {}
                'P' => {
                    if !self.taken('<') {
                        return None;
                    }
                    while self.rest.next()? != '>' {}
                }
                'i' | 'm' | 's' | 'u' | 'U' | 'R' | '-' => {
                    // Flags. Not `x`: with comments a pattern could be taken for another.
                    loop {
                        match self.rest.next()? {
                            ':' => break,
                            ')' => {
                                self.depth -= 1;
                                return Some(Node::One(1.0));
                            }
                            'i' | 'm' | 's' | 'u' | 'U' | 'R' | '-' => {}
                            _ => return None,
                        }
                    }
                }
                // Conditions, recursion and the like: no schema needs them.
                _ => return None,
            }
        }
        let inner = self.choices()?;
        if !self.taken(')') {
            return None;
        }
        self.depth -= 1;
        self.hard |= looks;
        Some(if looks {
            Node::Look(Box::new(inner))
        } else {
            inner
        })
    }

    fn escape(&mut self) -> Option<Node> {
        Some(match self.rest.next()? {
            '1'..='9' => {
                self.hard = true;
                while self.rest.next_if(char::is_ascii_digit).is_some() {}
                Node::Back
            }
            'k' => {
                self.hard = true;
                if self.taken('<') {
                    while self.rest.next()? != '>' {}
                }
                Node::Back
            }
            // Subroutines, and places that only the other engine knows.
            'g' | 'K' | 'G' | 'X' | 'R' => return None,
            'p' | 'P' => {
                if self.taken('{') {
                    while self.rest.next()? != '}' {}
                } else {
                    self.rest.next()?;
                }
                Node::One(UNICODE)
            }
            'W' | 'D' | 'S' | 's' => Node::One(WIDE),
            'x' | 'u' => {
                if self.taken('{') {
                    while self.rest.next()? != '}' {}
                }
                Node::One(1.0)
            }
            _ => Node::One(1.0),
        })
    }

    /// The states of a class whose bracket is read already.
    fn class(&mut self) -> f64 {
        let mut size = if self.taken('^') { WIDE } else { 1.0 };
        // In one dialect classes nest; ending early then counts more, never less.
        while let Some(next) = self.rest.next() {
            match next {
                '\\' => match self.rest.next() {
                    Some('p' | 'P') => size += UNICODE,
                    Some('W' | 'D' | 'S' | 's') => size += WIDE,
                    _ => {}
                },
                ']' => break,
                next if !next.is_ascii() => size += 1.0,
                _ => {}
            }
        }
        size
    }
}
