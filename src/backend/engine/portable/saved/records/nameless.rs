//! Answers that do not say whose they are.

use std::collections::BTreeSet;

use super::super::answers;
use super::Builder;
use crate::api::pb;
use crate::backend::engine::portable::holdings::Found;
use crate::backend::engine::portable::places::Placed;
use crate::backend::engine::portable::problem::Place;
use crate::backend::engine::portable::tags;
use crate::backend::engine::provision::{Rollout, Target};
use crate::backend::engine::service_instance;

/// What a file with the outputs of a target is called after.
fn whose(target: &Target) -> (&'static str, String) {
    match target {
        Target::Environment(name) => ("environment-outputs", name.clone()),
        Target::Instance { service, name } => (
            "service-instance-outputs",
            service_instance::key(service, name),
        ),
        Target::Pipeline { service } => ("service-pipeline-outputs", service.clone()),
        Target::Component(name) => ("component-outputs", name.clone()),
    }
}

impl Builder<'_> {
    /// Gives outputs to whom the name of their file says.
    pub(super) fn outputs(&mut self, nameless: &answers::Nameless) {
        let outputs: Vec<pb::Output> = answers::items(nameless, "outputs", self.problems);
        let place = Place::whole(&nameless.file, self.problems).member("outputs");
        for (index, output) in outputs.iter().enumerate() {
            if output.key().is_empty() {
                place.element(index).member("key").wrong("is missing");
            }
        }
        let holdings = &mut self.saved.holdings;
        let file = nameless.file.as_str();
        let mut rollouts: Vec<(&str, String, Option<&mut Rollout>)> = Vec::new();
        fn rollout(
            target: Target,
            rollout: Option<&mut Rollout>,
        ) -> (&'static str, String, Option<&mut Rollout>) {
            let (kind, owner) = whose(&target);
            (kind, owner, rollout)
        }
        let environments = holdings.environments.iter_mut().map(|it| &mut it.record);
        rollouts.extend(environments.map(|it| rollout(it.target(), it.rollout.as_mut())));
        let instances = holdings.instances.iter_mut().map(|it| &mut it.record);
        rollouts.extend(instances.map(|it| rollout(it.target(), it.rollout.as_mut())));
        let pipelines = holdings.pipelines.iter_mut().map(|it| &mut it.record);
        rollouts.extend(pipelines.map(|it| rollout(it.target(), it.rollout.as_mut())));
        let components = holdings.components.iter_mut().map(|it| &mut it.record);
        rollouts.extend(components.map(|it| rollout(it.target(), it.rollout.as_mut())));
        let left_out = self.left_out.iter().map(whose);
        let owners = rollouts
            .iter()
            .map(|(kind, owner, _)| (*kind, owner.clone()));
        let owners: Vec<_> = owners.chain(left_out).collect();
        let kinds: BTreeSet<_> = owners.iter().map(|(kind, _)| *kind).collect();
        let given = kinds.into_iter().find_map(|kind| {
            let of_kind = owners.iter().filter(|(is, _)| *is == kind);
            let of_kind: Vec<String> = of_kind.map(|(_, owner)| owner.clone()).collect();
            answers::owner(file, kind, &of_kind).map(|owner| (kind, owner.to_owned()))
        });
        if given
            .as_ref()
            .is_some_and(|given| self.left_out.iter().any(|target| whose(target) == *given))
        {
            return;
        }
        let rollout = given.and_then(|(kind, owner)| {
            rollouts
                .into_iter()
                .find(|(is, of, _)| *is == kind && *of == owner)
        });
        let Some((kind, owner, Some(rollout))) = rollout else {
            return self.problems.add(
                file,
                "outputs",
                "whose they are cannot be told; name the file \
                 list-{environment|service-instance|service-pipeline|component}-outputs-{names}.json after \
                 something that was saved",
            );
        };
        let owner = format!("{kind} {owner}");
        if let Some(other) = self.nameless.insert(owner, file.to_owned()) {
            if rollout.outputs != outputs {
                let problem = format!("differ from those in {other}; keep one of the files");
                self.problems.add(file, "outputs", problem);
            }
            return;
        }
        rollout.outputs.clone_from(&outputs);
        let id = rollout.succeeded_id.clone();
        let deployments = holdings.deployments.iter_mut().map(|it| &mut it.record);
        for deployment in deployments.filter(|it| id.as_deref() == Some(it.id())) {
            deployment.outputs.clone_from(&outputs);
        }
    }

    /// Gives tags to whom the name of their file says.
    pub(super) fn tags(&mut self, nameless: &answers::Nameless) {
        fn places<R: Placed>(
            found: &mut [Found<R>],
        ) -> impl Iterator<Item = (String, &mut Vec<pb::Tag>)> {
            found
                .iter_mut()
                .map(|it| (Placed::tail(&it.record), &mut it.tags))
        }
        let mut tags: Vec<pb::Tag> = answers::items(nameless, "tags", self.problems);
        let place = Place::whole(&nameless.file, self.problems).member("tags");
        let own = tags.iter().enumerate();
        tags::check(own.filter(|(_, tag)| answers::is_own(tag)), &place);
        // Proton's own are derived.
        tags.retain(answers::is_own);
        let holdings = &mut self.saved.holdings;
        let mut owners: Vec<(String, &mut Vec<pb::Tag>)> = places(&mut holdings.environments)
            .chain(places(&mut holdings.services))
            .chain(places(&mut holdings.instances))
            .chain(places(&mut holdings.components))
            .chain(places(&mut holdings.templates))
            .chain(places(&mut holdings.versions))
            .chain(places(&mut holdings.repositories))
            .chain(places(&mut holdings.connections))
            .collect();
        let left_out = self.left_out.iter().map(Target::tail);
        let tails = owners.iter().map(|(tail, _)| tail.clone());
        let tails: Vec<String> = tails.chain(left_out.clone()).collect();
        let owner = answers::owner(&nameless.file, "tags-for-resource", &tails);
        match owners.iter_mut().find(|(tail, _)| Some(tail.as_str()) == owner) {
            Some((tail, there)) => {
                let other = self.nameless.insert(tail.clone(), nameless.file.clone());
                match other {
                    Some(other) if **there != tags => place.wrong(format!(
                        "differ from those in {other}; keep one of the files"
                    )),
                    _ => **there = tags,
                }
            }
            None if left_out.clone().any(|tail| Some(tail.as_str()) == owner) => {}
            None => self.problems.add(
                &nameless.file,
                "tags",
                "whose they are cannot be told; name the file list-tags-for-resource-{end of the ARN, with - \
                 for / and :}.json after something that was saved",
            ),
        }
    }
}
