//! Whether what is deployed is whole: its versions are there, its specs can be read, and what its
//! deployments say goes with it.

use serde_json::Value;

use super::Check;
use crate::api::pb::{DeploymentStatus, TemplateType};
use crate::backend::engine::component::ComponentRecord;
use crate::backend::engine::environment::EnvironmentRecord;
use crate::backend::engine::provision::{Rollout, Target};
use crate::backend::engine::registry;
use crate::backend::engine::service_instance::InstanceRecord;
use crate::backend::engine::service_pipeline::PipelineRecord;
use crate::backend::engine::template::spec::ServiceSpec;
use crate::backend::engine::template::yaml;

/// Something that is deployed.
pub(super) trait Deployed {
    /// Of which its versions are.
    const KIND: TemplateType;

    fn target(&self) -> Target;
    fn rollout(&self) -> Option<&Rollout>;
    /// `current` and `pending`.
    fn states(&self) -> [Option<State<'_>>; 2];
}

/// What is there, or is to be.
pub(super) struct State<'a> {
    /// Template, major and minor; a component has none.
    version: Option<(&'a str, &'a str, &'a str)>,
    spec: Option<&'a str>,
}

macro_rules! deployed {
    ($($record:ty: $kind:ident),* $(,)?) => {$(
        impl Deployed for $record {
            const KIND: TemplateType = TemplateType::$kind;

            fn target(&self) -> Target {
                self.target()
            }

            fn rollout(&self) -> Option<&Rollout> {
                self.rollout.as_ref()
            }

            fn states(&self) -> [Option<State<'_>>; 2] {
                [&self.current, &self.pending].map(|state| {
                    state.as_ref().map(|state| State {
                        version: Some((
                            state.template_name(),
                            state.template_major_version(),
                            state.template_minor_version(),
                        )),
                        spec: state.spec.as_deref(),
                    })
                })
            }
        }
    )*};
}

deployed! {
    EnvironmentRecord: Environment,
    InstanceRecord: Service,
    PipelineRecord: Service,
}

impl Deployed for ComponentRecord {
    const KIND: TemplateType = TemplateType::Unspecified;

    fn target(&self) -> Target {
        self.target()
    }

    fn rollout(&self) -> Option<&Rollout> {
        self.rollout.as_ref()
    }

    fn states(&self) -> [Option<State<'_>>; 2] {
        [&self.current, &self.pending].map(|state| {
            state.as_ref().map(|_| State {
                version: None,
                spec: None,
            })
        })
    }
}

impl Check<'_> {
    pub(super) fn deployed<D: Deployed>(&self, file: &str, record: &D) {
        let states = record.states();
        for (field, state) in ["current", "pending"].into_iter().zip(&states) {
            let Some(state) = state else {
                continue;
            };
            if let Some(version) = state.version {
                self.version(file, field, D::KIND, version);
            }
            let field = format!("{field}.spec");
            match D::KIND {
                TemplateType::Environment => self.environment_spec(file, &field, state.spec),
                _ => self.service_spec(file, &field, state.spec),
            }
        }
        let Some(rollout) = record.rollout() else {
            return self.wrong(file, "deployment", "is missing");
        };
        self.rollout(file, &record.target().tail(), rollout);
        let [current, pending] = states.map(|state| state.is_some());
        match rollout.status() {
            DeploymentStatus::DeleteComplete => {
                let text = "says that it was deleted: leave it out";
                self.wrong(file, "deployment.status", text);
            }
            DeploymentStatus::Succeeded if !current => {
                let text = "is missing, and deployment.status says that it was deployed";
                self.wrong(file, "current", text);
            }
            DeploymentStatus::InProgress | DeploymentStatus::Cancelling if !pending => {
                let text = "is missing: it is what the deployment that is under way brings about";
                self.wrong(file, "pending", text);
            }
            _ => {}
        }
    }

    fn version(
        &self,
        file: &str,
        field: &str,
        kind: TemplateType,
        (name, major, minor): (&str, &str, &str),
    ) {
        for (member, number) in [
            ("templateMajorVersion", major),
            ("templateMinorVersion", minor),
        ] {
            if number.is_empty() {
                return self.wrong(file, &format!("{field}.{member}"), "is missing");
            }
        }
        let numbers = registry::number(major).zip(registry::number(minor));
        let there = numbers.is_some_and(|(major, minor)| {
            let key = registry::version_key(kind, name, major, minor);
            self.versions.contains(&key)
        });
        if !there {
            let field = format!("{field}.templateMajorVersion");
            let noun = registry::noun(kind).replace('-', " ");
            self.wrong(
                file,
                &field,
                format!("there is no {noun} version `{name}:{major}.{minor}`"),
            );
        }
    }

    /// A target that is busy has a deployment that will end, and only such a target has.
    fn rollout(&self, file: &str, target: &str, rollout: &Rollout) {
        if rollout.status == 0 {
            self.wrong(file, "deployment.status", "is missing");
        }
        for (index, output) in rollout.outputs.iter().enumerate() {
            if output.key().is_empty() {
                let field = format!("deployment.outputs[{index}].key");
                self.wrong(file, &field, "is missing");
            }
        }
        let under_way = self.under_way.get(target);
        match (rollout.busy(), under_way) {
            (true, Some(id)) if Some(id) == rollout.attempted_id.as_ref() => {}
            (false, None) => {}
            (true, _) => self.wrong(
                file,
                "deployment.lastAttemptedDeploymentId",
                "must be the deployment that is under way, which is not there",
            ),
            (false, Some(id)) => {
                let problem = format!("says that nothing is under way, but the deployment {id} is");
                self.wrong(file, "deployment.status", problem);
            }
        }
    }

    fn environment_spec(&self, file: &str, field: &str, text: Option<&str>) {
        match text.map(yaml::parse) {
            None | Some(Ok(Value::Object(_))) => {}
            Some(Ok(_)) => self.wrong(file, field, "is no mapping"),
            Some(Err(error)) => self.wrong(file, field, format!("is no YAML: {error}")),
        }
    }

    pub(super) fn service_spec(&self, file: &str, field: &str, text: Option<&str>) {
        let Some(text) = text else {
            return;
        };
        if let Err(error) = ServiceSpec::parse(text, usize::MAX) {
            for violation in &error.violations {
                self.wrong(file, field, violation.to_string());
            }
            if error.violations.is_empty() {
                self.wrong(file, field, error.to_string());
            }
        }
    }
}
