//! What AWS Proton's command line has printed, as what a store is to hold.
//!
//! A folder of JSON files, each the answer of one `aws proton get-…` or `list-…`. Which answer a
//! file has is told by the answer itself, except for outputs and tags, which do not say whose they
//! are: there the name of the file does. What was not saved is filled from list entries and from
//! what refers to it, as far as that goes; the rest is told as a [`Remark`]. Nothing is deployed,
//! and nothing stays under way: AWS will not end it any more.

mod answers;
mod bundles;
mod records;

use std::path::Path;

use super::holdings::Holdings;
use super::problem::Problems;
use crate::backend::engine::context::Settings;

/// Something that was not saved, and what that prevents.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// As in its ARN: `environment/prod`.
    pub subject: String,
    pub text: String,
}

/// What was saved.
#[derive(Debug, Default)]
pub struct Saved {
    pub holdings: Holdings,
    pub remarks: Vec<Remark>,
}

impl Saved {
    fn remark(&mut self, subject: impl Into<String>, text: impl Into<String>) {
        self.remarks.push(Remark {
            subject: subject.into(),
            text: text.into(),
        });
    }
}

/// Reads the answers in the folder `root`, and the bundles in another one, if there is one. `told`
/// is called with how many answers are read, and how many there are.
pub fn read(
    root: &Path,
    bundles: Option<&Path>,
    settings: &Settings,
    problems: &Problems,
    told: &dyn Fn(u64, u64),
) -> Result<Saved, String> {
    let answers = answers::read(root, settings, problems, told)?;
    let mut saved = records::build(answers, problems);
    bundles::add(&mut saved, bundles, problems)?;
    let unfit = Problems::default();
    saved.holdings.check(&unfit);
    problems.take(unfit, answered);
    saved.remarks.sort();
    saved.remarks.dedup();
    Ok(saved)
}

/// Where an answer has what stands in a field of a record.
fn answered(field: &str) -> String {
    let state = ["current.", "pending."]
        .iter()
        .find_map(|state| field.strip_prefix(state));
    match (state, field.strip_prefix("deployment.last")) {
        (Some(member), _) => member.to_owned(),
        (None, Some(rest)) => format!("last{rest}"),
        (None, None) if field == "deployment.status" => "deploymentStatus".to_owned(),
        (None, None) if field == "target" => "deployment.targetArn".to_owned(),
        (None, None) => field.to_owned(),
    }
}
