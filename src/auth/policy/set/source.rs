//! Policies as text: files and folders, and where in them something is wrong.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use cedar_policy::ffi::DetailedError;
use cedar_policy::{PolicyId, PolicySet};

/// What stands before the ids of policies of ours.
pub const BUILT_IN: &str = "built-in";
/// The largest file that is read, and the most files of one folder.
const MAX_FILE_BYTES: u64 = 1 << 20;
const MOST_FILES: usize = 1000;

/// Why there are no policies.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("cannot read the policies in {path}: {cause}")]
    Unreadable {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("{path}: {problem}")]
    Unfit { path: PathBuf, problem: String },
    #[error("{path}:{line}: {problem}")]
    Wrong {
        path: PathBuf,
        /// From 1.
        line: usize,
        problem: String,
    },
    #[error("the policies of the program itself are wrong: {0}")]
    BuiltIn(String),
}

/// From which source a policy is.
pub type Owners = HashMap<PolicyId, usize>;

/// Some policies as text.
pub struct Source {
    pub path: PathBuf,
    pub text: String,
    /// They come with the program.
    pub ours: bool,
}

impl Source {
    pub fn wrong(&self, error: &DetailedError, problem: &str) -> PolicyError {
        let place = error.source_locations.first();
        let offset = place.map_or(0, |label| label.loc.start);
        let before = self.text.get(..offset).unwrap_or_default();
        let label = place.and_then(|label| label.label.as_ref());
        let more = error.help.iter().chain(label);
        PolicyError::Wrong {
            path: self.path.clone(),
            line: before.matches('\n').count() + 1,
            problem: more.fold(problem.to_owned(), |problem, more| {
                format!("{problem}; {more}")
            }),
        }
    }

    fn unfit(&self, problem: impl Into<String>) -> PolicyError {
        PolicyError::Unfit {
            path: self.path.clone(),
            problem: problem.into(),
        }
    }

    /// Adds the file's policies to `set`, under ids that name the file.
    pub fn add_to(
        &self,
        set: &mut PolicySet,
        owners: &mut Owners,
        index: usize,
    ) -> Result<(), PolicyError> {
        let parsed: PolicySet = self
            .text
            .parse()
            .map_err(|error: cedar_policy::ParseErrors| {
                self.wrong(&DetailedError::from(&error), &error.to_string())
            })?;
        if parsed.num_of_templates() > 0 {
            return Err(
                self.unfit("it has a template (?principal or ?resource), which nothing fills in")
            );
        }
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        for policy in parsed.policies() {
            // Cedar numbers the policies of a text: policy0, policy1.
            let number = policy.id().to_string();
            let number = number.trim_start_matches("policy").parse::<usize>();
            let number = number.map_or(0, |number| number + 1);
            let id = policy
                .annotation("id")
                .map_or_else(|| format!("{file}#{number}"), str::to_owned);
            if !self.ours && id.starts_with(BUILT_IN) {
                return Err(self.unfit(format!(
                    "the id {id:?} is kept for policies of the program itself"
                )));
            }
            let id = PolicyId::new(match self.ours {
                true => format!("{BUILT_IN}:{id}"),
                false => id,
            });
            if owners.insert(id.clone(), index).is_some() {
                return Err(self.unfit(format!(
                    "another policy has the id {:?}; give it one of its own with @id",
                    id.to_string()
                )));
            }
            set.add(policy.new_id(id))
                .map_err(|error| self.unfit(error.to_string()))?;
        }
        Ok(())
    }
}

/// Reads a file, or the `*.cedar` files of a folder in the order of their names.
pub fn read(path: &Path, into: &mut Vec<Source>) -> Result<(), PolicyError> {
    let unreadable = |path: &Path, cause| PolicyError::Unreadable {
        path: path.to_owned(),
        cause,
    };
    let about = std::fs::metadata(path).map_err(|cause| unreadable(path, cause))?;
    let unfit = |problem: String| PolicyError::Unfit {
        path: path.to_owned(),
        problem,
    };
    if about.is_dir() {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|cause| unreadable(path, cause))? {
            let file = entry.map_err(|cause| unreadable(path, cause))?.path();
            if file
                .extension()
                .is_some_and(|extension| extension == "cedar")
                && !file.is_dir()
            {
                files.push(file);
            }
            if files.len() > MOST_FILES {
                return Err(unfit(format!(
                    "at most {MOST_FILES} files of policies are read"
                )));
            }
        }
        if files.is_empty() {
            return Err(unfit("the folder has no *.cedar file".to_owned()));
        }
        files.sort();
        return files.iter().try_for_each(|file| read(file, into));
    }
    if about.len() > MAX_FILE_BYTES {
        return Err(unfit(format!(
            "at most {MAX_FILE_BYTES} bytes of policies are read from one file"
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|cause| unreadable(path, cause))?;
    into.push(Source {
        path: path.to_owned(),
        text,
        ours: false,
    });
    Ok(())
}
