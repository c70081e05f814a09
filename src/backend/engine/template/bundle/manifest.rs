//! `manifest.yaml`: which files of a part are rendered, and how.

use serde_json::{Map, Value};

use super::{Bundle, BundleError};
use crate::backend::engine::template::yaml;

/// One part of a bundle, as its manifest describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Infrastructure {
    /// The directory of the part, relative to the root of the bundle.
    pub directory: &'static str,
    pub engine: Engine,
}

/// How a part is rendered. File names are relative to the directory of the part.
#[derive(Debug, Clone, PartialEq)]
pub enum Engine {
    /// One file with Jinja in it.
    CloudFormation { file: String },
    /// Files that are copied as they are; the inputs go into a variables file.
    Terraform { files: Vec<String> },
    /// Commands that run with all files of the directory at hand.
    CodeBuild {
        /// The `settings` as written; commands and project properties may hold Jinja.
        settings: Value,
        files: Vec<String>,
    },
}

impl Infrastructure {
    /// Reads the manifest in `directory` and checks that what it names is there.
    pub(super) fn read(bundle: &Bundle, directory: &'static str) -> Result<Self, BundleError> {
        let manifest = Manifest {
            bundle,
            directory,
            file: format!("{directory}/manifest.yaml"),
        };
        manifest.engine().map(|engine| Self { directory, engine })
    }

    /// The rendering engine, as the manifest calls it.
    pub fn rendering_engine(&self) -> &'static str {
        match self.engine {
            Engine::CloudFormation { .. } => "jinja",
            Engine::Terraform { .. } => "hcl",
            Engine::CodeBuild { .. } => "codebuild",
        }
    }
}

struct Manifest<'a> {
    bundle: &'a Bundle,
    directory: &'static str,
    file: String,
}

impl Manifest<'_> {
    fn wrong(&self, message: impl Into<String>) -> BundleError {
        BundleError::file(&self.file, message)
    }

    fn engine(&self) -> Result<Engine, BundleError> {
        let bytes = self.bundle.file(&self.file).ok_or_else(|| {
            self.wrong("is missing; a manifest has to say which template is rendered and how")
        })?;
        let document = yaml::parse_bytes(bytes).map_err(|error| self.wrong(error.to_string()))?;
        let templates = document
            .get("infrastructure")
            .and_then(|infrastructure| infrastructure.get("templates"))
            .and_then(Value::as_array)
            .ok_or_else(|| self.wrong("needs a list at `infrastructure.templates`"))?;
        let mut engines = Vec::new();
        for (index, template) in templates.iter().enumerate() {
            let place = format!("infrastructure.templates[{index}]");
            let Value::Object(template) = template else {
                return Err(self.wrong(format!("`{place}` must be a mapping")));
            };
            engines.push(self.template(template, &place)?);
        }
        self.merged(engines)
    }

    /// Several elements are only accepted as the files of one Terraform part.
    fn merged(&self, engines: Vec<Engine>) -> Result<Engine, BundleError> {
        let mut engines = engines.into_iter();
        let Some(mut merged) = engines.next() else {
            return Err(self.wrong("`infrastructure.templates` is empty; it needs one template"));
        };
        for engine in engines {
            match (&mut merged, engine) {
                (Engine::Terraform { files }, Engine::Terraform { files: more }) => {
                    files.extend(more);
                    files.sort();
                    files.dedup();
                }
                (Engine::CloudFormation { .. }, Engine::CloudFormation { .. }) => {
                    return Err(self
                        .wrong("names more than one CloudFormation file; a part has exactly one"));
                }
                _ => {
                    return Err(self.wrong(
                        "`infrastructure.templates` mixes templates that can't be rendered together",
                    ));
                }
            }
        }
        Ok(merged)
    }

    fn template(&self, template: &Map<String, Value>, place: &str) -> Result<Engine, BundleError> {
        let text = |key: &str| {
            let value = template.get(key)?.as_str()?;
            Some(value.to_ascii_lowercase())
        };
        let (engine, language) = (text("rendering_engine"), text("template_language"));
        match (engine.as_deref(), language.as_deref()) {
            (Some("jinja"), Some("cloudformation")) => {
                let file = self.named_file(template, place)?;
                self.text(&file)?;
                Ok(Engine::CloudFormation { file })
            }
            (Some("hcl"), Some("terraform")) => self.terraform(template, place),
            (Some("codebuild"), None) => self.codebuild(template, place),
            _ => Err(self.wrong(format!(
                "`{place}` must have one of these forms: `rendering_engine: jinja` with \
                 `template_language: cloudformation`, `rendering_engine: hcl` with \
                 `template_language: terraform`, or `rendering_engine: codebuild` with `settings`"
            ))),
        }
    }

    fn terraform(&self, template: &Map<String, Value>, place: &str) -> Result<Engine, BundleError> {
        let files = if template.get("file").and_then(Value::as_str) == Some("*") {
            let names = self.bundle.directory(self.directory).map(|(name, _)| name);
            names
                .filter(|name| name.ends_with(".tf"))
                .map(str::to_owned)
                .collect()
        } else {
            vec![self.named_file(template, place)?]
        };
        if files.is_empty() {
            return Err(self.wrong(format!(
                "`{place}.file` means all Terraform files, but there is no .tf file in {}/",
                self.directory
            )));
        }
        for file in &files {
            if !file.ends_with(".tf") {
                return Err(self.wrong(format!("`{place}.file` must name a .tf file or be \"*\"")));
            }
            self.text(file)?;
        }
        Ok(Engine::Terraform { files })
    }

    fn codebuild(&self, template: &Map<String, Value>, place: &str) -> Result<Engine, BundleError> {
        if template.contains_key("file") {
            return Err(self.wrong(format!(
                "`{place}.file` has no meaning with CodeBuild; remove it"
            )));
        }
        let place = format!("{place}.settings");
        let Some(Value::Object(settings)) = template.get("settings") else {
            return Err(self.wrong(format!("`{place}` must be a mapping")));
        };
        self.commands(settings, "provision", &place)?
            .filter(|count| *count > 0)
            .ok_or_else(|| self.wrong(format!("`{place}.provision` must list a command")))?;
        self.commands(settings, "deprovision", &place)?;
        if settings
            .get("image")
            .is_some_and(|image| !image.is_string())
        {
            return Err(self.wrong(format!("`{place}.image` must be a string")));
        }
        for key in ["runtimes", "env", "project_properties"] {
            if settings.get(key).is_some_and(|value| !value.is_object()) {
                return Err(self.wrong(format!("`{place}.{key}` must be a mapping")));
            }
        }
        for key in ["variables", "secrets_manager"] {
            let value = settings.get("env").and_then(|env| env.get(key));
            if value.is_some_and(|value| !value.is_object()) {
                return Err(self.wrong(format!("`{place}.env.{key}` must be a mapping")));
            }
        }
        let names = self
            .bundle
            .directory(self.directory)
            .map(|(name, _)| name.to_owned());
        Ok(Engine::CodeBuild {
            settings: Value::Object(settings.clone()),
            files: names.filter(|name| name != "manifest.yaml").collect(),
        })
    }

    /// How many commands a list has; `None` if it is absent.
    fn commands(
        &self,
        settings: &Map<String, Value>,
        key: &str,
        place: &str,
    ) -> Result<Option<usize>, BundleError> {
        match settings.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(commands)) if commands.iter().all(Value::is_string) => {
                Ok(Some(commands.len()))
            }
            Some(_) => Err(self.wrong(format!("`{place}.{key}` must be a list of commands"))),
        }
    }

    /// The file that a template names, which has to be there.
    fn named_file(
        &self,
        template: &Map<String, Value>,
        place: &str,
    ) -> Result<String, BundleError> {
        let name = template
            .get("file")
            .and_then(Value::as_str)
            .ok_or_else(|| self.wrong(format!("`{place}.file` must name a file")))?;
        let name = name.strip_prefix("./").unwrap_or(name);
        if self
            .bundle
            .file(&format!("{}/{name}", self.directory))
            .is_none()
        {
            return Err(self.wrong(format!(
                "`{place}.file` names `{name}`, which is not in {}/",
                self.directory
            )));
        }
        Ok(name.to_owned())
    }

    fn text(&self, name: &str) -> Result<(), BundleError> {
        let path = format!("{}/{name}", self.directory);
        let bytes = self.bundle.file(&path).unwrap_or_default();
        yaml::utf8(bytes)
            .map(|_| ())
            .map_err(|error| BundleError::file(path, error.to_string()))
    }
}
