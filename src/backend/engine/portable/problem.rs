//! What is wrong in a folder: all of it, with the file and the field.

use std::cell::{Cell, RefCell};
use std::fmt;

use crate::api::rules::camel_case;
use crate::error::Violation;

/// Problems that are told; beyond them nobody learns anything new.
const MOST: usize = 200;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Relative to the folder.
    pub file: String,
    /// Path of the field in the file; empty where it is about the whole file.
    pub field: String,
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => write!(f, "{}: {}", self.file, self.text),
            field => write!(f, "{}: {field}: {}", self.file, self.text),
        }
    }
}

/// All that was found to be wrong so far.
#[derive(Debug, Default)]
pub struct Problems {
    found: RefCell<Vec<Problem>>,
    more: Cell<usize>,
}

impl Problems {
    pub fn add(&self, file: &str, field: &str, text: impl Into<String>) {
        let mut found = self.found.borrow_mut();
        if found.len() >= MOST {
            self.more.set(self.more.get() + 1);
            return;
        }
        found.push(Problem {
            file: file.to_owned(),
            field: field.to_owned(),
            text: text.into(),
        });
    }

    /// Those that were kept, in the order of the files, and how many more there are.
    pub fn finish(self) -> (Vec<Problem>, usize) {
        let mut found = self.found.into_inner();
        found.sort_by(|a, b| (&a.file, &a.field).cmp(&(&b.file, &b.field)));
        found.dedup();
        (found, self.more.get())
    }

    /// Takes those of `others`, whose fields are called otherwise here.
    pub fn take(&self, others: Self, named: impl Fn(&str) -> String) {
        let (found, more) = others.finish();
        for problem in found {
            self.add(&problem.file, &named(&problem.field), problem.text);
        }
        self.more.set(self.more.get() + more);
    }

    pub fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }
}

/// Where something stands in a file.
#[derive(Clone)]
pub struct Place<'a> {
    pub file: &'a str,
    field: String,
    problems: &'a Problems,
}

impl<'a> Place<'a> {
    pub fn whole(file: &'a str, problems: &'a Problems) -> Self {
        Self {
            file,
            field: String::new(),
            problems,
        }
    }

    pub fn member(&self, name: &str) -> Self {
        let field = match self.field.as_str() {
            "" => name.to_owned(),
            outer => format!("{outer}.{name}"),
        };
        Self {
            field,
            ..self.clone()
        }
    }

    pub fn element(&self, index: usize) -> Self {
        Self {
            field: format!("{}[{index}]", self.field),
            ..self.clone()
        }
    }

    pub fn wrong(&self, text: impl Into<String>) {
        self.problems.add(self.file, &self.field, text);
    }

    /// Notes where the contract's rules are broken.
    pub fn violated(&self, violations: Vec<Violation>) {
        for violation in violations {
            let place = match violation.field.as_str() {
                "" => self.clone(),
                path => self.member(&camel_case(path)),
            };
            let text = violation.description;
            place.wrong(text.trim_start_matches("Member "));
        }
    }
}
