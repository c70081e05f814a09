//! Services: a spec with instances, and a pipeline if the template has one.
//!
//! Creating, editing and deleting a service takes several deployments. What is under way stands
//! in the record as [`Work`]; each deployment that ends calls [`progress`], which takes the next
//! step. User Guide, "Edit a service": new instances first, then deletions, then the pipeline.
//! Which failure leads to which status is nowhere written; see `docs/compatibility.md`.
//!
//! Keys of [`ServiceRecord`]: the name.

mod work;

use prost::Message;
use prost_types::Timestamp;

use super::context::Context;
use super::idempotency;
use super::paging::Page;
use super::provision::{Rollout, Target};
use super::registry::{self, VersionRecord};
use super::service_instance::{self, InstanceRecord};
use super::service_pipeline::{self, PipelineRecord};
use super::service_sync::ServiceSyncRecord;
use super::spec;
use super::store::{Record, Transaction};
use super::tag;
use super::template::schema::Schema;
use super::template::spec::{ServiceSpec, SpecError, Used};
use super::template::yaml;
use crate::api::pb::{self, DeploymentStatus, ServiceStatus as Status, TemplateType};
use crate::error::{Error, Result, Violation};
pub use work::{Phase, Work, WorkKind, progress};

const KIND: TemplateType = TemplateType::Service;

#[derive(Clone, PartialEq, Message)]
pub struct ServiceRecord {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub created_at: Option<Timestamp>,
    #[prost(message, optional, tag = "3")]
    pub last_modified_at: Option<Timestamp>,
    #[prost(string, tag = "4")]
    pub template: String,
    /// The version it was created with; its instances move on by themselves.
    #[prost(uint64, tag = "5")]
    pub major: u64,
    #[prost(uint64, tag = "6")]
    pub minor: u64,
    #[prost(string, optional, tag = "7")]
    pub description: Option<String>,
    #[prost(string, optional, tag = "8")]
    pub repository_connection_arn: Option<String>,
    #[prost(string, optional, tag = "9")]
    pub repository_id: Option<String>,
    #[prost(string, optional, tag = "10")]
    pub branch_name: Option<String>,
    /// Absent until it was created, with or without success.
    #[prost(string, optional, tag = "11")]
    pub spec: Option<String>,
    #[prost(enumeration = "Status", tag = "12")]
    pub status: i32,
    #[prost(string, optional, tag = "13")]
    pub status_message: Option<String>,
    #[prost(message, optional, tag = "14")]
    pub work: Option<Work>,
    #[prost(string, tag = "15")]
    pub fingerprint: String,
    #[prost(bool, tag = "16")]
    pub modified: bool,
}

impl Record for ServiceRecord {
    const KIND: &'static str = "service";

    fn key(&self) -> String {
        self.name.clone()
    }
}

impl ServiceRecord {
    /// The tail of its ARN.
    pub fn tail(&self) -> String {
        format!("service/{}", self.name)
    }

    /// Refuses while the service is being created, edited or deleted.
    pub fn settled(&self) -> Result<()> {
        if self.work.is_some() {
            return Err(self.busy());
        }
        self.not_half_deleted()
    }

    /// Refuses what would disturb an edit or a deletion. While the service is being created, its
    /// new pipeline may already ship to the instances that are there.
    pub fn open_to_deployments(&self) -> Result<()> {
        match &self.work {
            Some(work) if work.kind() != WorkKind::Create => Err(self.busy()),
            _ => self.not_half_deleted(),
        }
    }

    fn not_half_deleted(&self) -> Result<()> {
        if self.status() == Status::DeleteFailed {
            let tail = self.tail();
            return Err(Error::precondition(
                &tail,
                format!("the deletion of {tail} failed; it can only be deleted again"),
            ));
        }
        Ok(())
    }

    fn busy(&self) -> Error {
        let tail = self.tail();
        let status = self.status().as_str_name();
        let status = status.trim_start_matches("SERVICE_STATUS_");
        Error::in_progress(
            &tail,
            format!("{tail} is {status}; wait until that has ended"),
        )
    }

    /// Whether an edit goes on until the pipeline is deployed anew, which has not begun.
    fn awaits_its_pipeline(&self) -> bool {
        self.work.as_ref().is_some_and(|work| {
            work.kind() == WorkKind::Update
                && matches!(work.phase(), Phase::Adding | Phase::Removing)
        })
    }

    /// The spec that holds, or is to hold.
    pub fn spec_text(&self) -> &str {
        match (&self.spec, &self.work) {
            (Some(text), _) => text,
            (None, Some(work)) => &work.spec,
            (None, None) => "",
        }
    }

    /// The major and minor version it was created with.
    pub fn version(&self) -> (String, String) {
        (self.major.to_string(), self.minor.to_string())
    }

    /// The recommended minor of the service's major; before one is published, the version that
    /// the service was created with, or, if that is gone, one that its instances are on.
    pub fn version_for_new_instances(
        &self,
        tx: &Transaction<'_>,
        cx: &Context,
    ) -> Result<VersionRecord> {
        let (major, minor) = self.version();
        let mut numbers = vec![(major.clone(), None), (major, Some(minor))];
        for instance in service_instance::of_service(tx, &self.name)? {
            numbers.extend(
                instance
                    .version()
                    .map(|(major, minor)| (major.to_owned(), Some(minor.to_owned()))),
            );
        }
        let mut missing = None;
        for (major, minor) in numbers {
            match registry::deployable(tx, cx, KIND, &self.template, &major, minor.as_deref()) {
                Err(error) if error.is_not_found() => missing = missing.or(Some(error)),
                other => return other,
            }
        }
        Err(missing.unwrap_or_else(|| Error::internal("a service has no version at all")))
    }

    fn view(self, tx: &Transaction<'_>, cx: &Context) -> Result<pb::Service> {
        let pipeline = tx.get::<PipelineRecord>(&self.name)?;
        let awaited = self.awaits_its_pipeline();
        Ok(pb::Service {
            arn: Some(cx.arn(&self.tail())),
            branch_name: self.branch_name,
            created_at: self.created_at,
            description: self.description,
            last_modified_at: self.last_modified_at,
            name: Some(self.name),
            pipeline: pipeline.map(|record| match awaited {
                true => record.view_of_awaited(cx),
                false => record.view(cx),
            }),
            repository_connection_arn: self.repository_connection_arn,
            repository_id: self.repository_id,
            spec: self.spec,
            status: self.status,
            status_message: self.status_message,
            template_name: Some(self.template),
        })
    }

    fn summary(self, cx: &Context) -> pb::ServiceSummary {
        pb::ServiceSummary {
            arn: Some(cx.arn(&self.tail())),
            created_at: self.created_at,
            description: self.description,
            last_modified_at: self.last_modified_at,
            name: Some(self.name),
            status: self.status,
            status_message: self.status_message,
            template_name: Some(self.template),
        }
    }
}

pub fn record(tx: &Transaction<'_>, name: &str) -> Result<ServiceRecord> {
    tx.get(name)?
        .ok_or_else(|| Error::not_found("service", name))
}

/// Notes that a service is not any more as it was created.
pub fn modified(tx: &Transaction<'_>, cx: &Context, name: &str) -> Result<()> {
    let mut service = record(tx, name)?;
    service.modified = true;
    service.last_modified_at = Some(cx.now());
    tx.put(&service)
}

/// Whose part of a spec is taken over into the service's spec.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    Instance(&'a str),
    Pipeline,
}

impl ServiceRecord {
    /// The spec that holds, or, while something is under way, the one that is to hold.
    pub fn coming_spec(&self) -> &str {
        match &self.work {
            Some(work) => &work.spec,
            None => self.spec.as_deref().unwrap_or_default(),
        }
    }

    /// The service's spec with one part taken from `text`; `None` if that changes nothing. Refused
    /// if it became larger than a spec may be.
    pub fn with_part(&self, text: &str, part: Part<'_>) -> Result<Option<String>> {
        let before = self.coming_spec();
        if before == text || before.is_empty() {
            return Ok(None);
        }
        let (old, new) = (spec::stored(before)?, spec::stored(text)?);
        let merged = part.taken(&old, &new)?;
        if merged == old {
            return Ok(None);
        }
        // The caller's own text is kept where it says all there is.
        if merged == new {
            return Ok(Some(text.to_owned()));
        }
        spec::rendered(&merged).map(Some)
    }

    /// Refuses a part that the service's spec could not take over, however the deployments end
    /// that are under way.
    pub fn can_take(&self, tx: &Transaction<'_>, text: &str, part: Part<'_>) -> Result<()> {
        let before = self.coming_spec();
        if before.is_empty() {
            return Ok(());
        }
        let mut coming = spec::stored(before)?;
        let under_way = |rollout: &Option<Rollout>| rollout.as_ref().is_some_and(Rollout::busy);
        for instance in service_instance::of_service(tx, &self.name)? {
            if let Some(pending) = instance.pending.filter(|_| under_way(&instance.rollout)) {
                Part::Instance(&instance.name).grow(&mut coming, before, pending.spec())?;
            }
        }
        if let Some(pipeline) = tx.get::<PipelineRecord>(&self.name)?
            && let Some(pending) = pipeline.pending.filter(|_| under_way(&pipeline.rollout))
        {
            Part::Pipeline.grow(&mut coming, before, pending.spec())?;
        }
        let new = spec::stored(text)?;
        let merged = part.taken(&coming, &new)?;
        if merged == coming || merged == new {
            return Ok(());
        }
        spec::rendered(&merged).map(drop)
    }
}

impl Part<'_> {
    /// `old` with this part of `new`.
    fn taken(self, old: &ServiceSpec, new: &ServiceSpec) -> Result<ServiceSpec> {
        match self {
            Self::Instance(name) => old
                .merge_instance(new, name)
                .map_err(|error| spec::refused(&error)),
            Self::Pipeline => Ok(ServiceSpec {
                pipeline: new.pipeline.clone(),
                ..old.clone()
            }),
        }
    }

    /// Puts this part of the text `new` into `spec`, which was read from the text `old`, where it
    /// is the longer one: which of both stays is not known yet.
    fn grow(self, spec: &mut ServiceSpec, old: &str, new: &str) -> Result<()> {
        if old == new {
            return Ok(());
        }
        let grown = self.taken(spec, &spec::stored(new)?)?;
        let inputs = |spec: &ServiceSpec| match self {
            Self::Instance(name) => spec.instance(name).map(|(_, is)| is.inputs.clone()),
            Self::Pipeline => spec.pipeline.clone(),
        };
        let length = |spec| inputs(spec).map(|inputs| yaml::render(&inputs).chars().count());
        if length(&grown) > length(spec) {
            *spec = grown;
        }
        Ok(())
    }
}

/// Takes a part of a spec that was deployed over into the service's spec. Whether that is possible
/// was asked before the deployment; if it is not any more, the spec stays as it was, for a
/// deployment must be able to end.
pub fn adopt(tx: &Transaction<'_>, service: &str, text: &str, part: Part<'_>) -> Result<()> {
    let Some(mut service) = tx.get::<ServiceRecord>(service)? else {
        return Ok(());
    };
    match service.with_part(text, part) {
        Ok(Some(text)) => match &mut service.work {
            Some(work) => work.spec = text,
            None => service.spec = Some(text),
        },
        Ok(None) => return Ok(()),
        Err(error) => {
            tracing::warn!(cause = %error, service = service.name, "a service's spec cannot take over what was deployed");
            return Ok(());
        }
    }
    tx.put(&service)
}

pub fn create(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::CreateServiceRequest,
) -> Result<pb::CreateServiceResponse> {
    request.tags = tag::sorted(request.tags);
    let fingerprint = idempotency::fingerprint(&request);
    if let Some(original) = tx.get::<ServiceRecord>(&request.name)? {
        let tail = original.tail();
        match original.status() {
            Status::DeleteInProgress => return Err(original.busy()),
            Status::DeleteFailed => original.not_half_deleted()?,
            _ => {}
        }
        idempotency::same_create(
            &tail,
            &original.fingerprint,
            &fingerprint,
            original.modified,
        )?;
        return Ok(pb::CreateServiceResponse {
            service: Some(original.view(tx, cx)?),
        });
    }
    let version = registry::deployable(
        tx,
        cx,
        KIND,
        &request.template_name,
        &request.template_major_version,
        request.template_minor_version.as_deref(),
    )?;
    let has_pipeline = version.pipeline_rendering.is_some();
    check_repository(&request, has_pipeline)?;
    let spec = spec::service(&request.spec)?;
    check_spec(&spec, &spec::schema(cx, &version)?)?;
    if has_pipeline {
        service_pipeline::provisionable(tx, &version)?;
    }
    let quota = cx.settings.quotas.services;
    if tx.count::<ServiceRecord>("")? >= quota {
        return Err(Error::quota("services", quota));
    }
    room_for(cx, spec.instances.len())?;
    let record = ServiceRecord {
        created_at: Some(cx.now()),
        last_modified_at: Some(cx.now()),
        template: request.template_name,
        major: version.major,
        minor: version.minor,
        description: request.description,
        repository_connection_arn: request.repository_connection_arn,
        repository_id: request.repository_id,
        branch_name: request.branch_name,
        spec: None,
        status: Status::CreateInProgress.into(),
        status_message: None,
        work: Some(Work {
            kind: WorkKind::Create.into(),
            phase: Phase::Adding.into(),
            added: names(&spec),
            spec: request.spec.clone(),
            ..Work::default()
        }),
        fingerprint,
        modified: false,
        name: request.name,
    };
    tag::begin(tx, &record.tail(), request.tags)?;
    tx.put(&record)?;
    for name in names(&spec) {
        service_instance::add(tx, cx, &record, &version, &spec, &request.spec, &name)?;
    }
    Ok(pb::CreateServiceResponse {
        service: Some(record.view(tx, cx)?),
    })
}

fn names(spec: &ServiceSpec) -> Vec<String> {
    spec.instances
        .iter()
        .map(|instance| instance.name.clone())
        .collect()
}

fn room_for(cx: &Context, instances: usize) -> Result<()> {
    let quota = cx.settings.quotas.instances_per_service;
    if instances > quota {
        return Err(Error::quota(
            "service instances per service",
            u64::try_from(quota).unwrap_or(u64::MAX),
        ));
    }
    Ok(())
}

/// API Reference: connection, repository and branch go together, and only with a pipeline.
fn check_repository(request: &pb::CreateServiceRequest, has_pipeline: bool) -> Result<()> {
    let given = [
        (
            "repository_connection_arn",
            request.repository_connection_arn.is_some(),
        ),
        ("repository_id", request.repository_id.is_some()),
        ("branch_name", request.branch_name.is_some()),
    ];
    let problem = if has_pipeline {
        "is required: the template has a pipeline"
    } else {
        "must be left out: the template has no pipeline"
    };
    let violations: Vec<_> = given
        .into_iter()
        .filter(|(_, given)| *given != has_pipeline)
        .map(|(field, _)| Violation::new(field, problem))
        .collect();
    match violations.first() {
        None => Ok(()),
        Some(first) => Err(Error::violations(
            format!("{} {}", first.field, first.description),
            violations,
        )),
    }
}

/// Checks all inputs of a spec, and says everything that is wrong with them.
fn check_spec(spec: &ServiceSpec, schema: &Schema) -> Result<()> {
    let mut wrong: Option<SpecError> = None;
    let mut note = |found: SpecError| match &mut wrong {
        None => wrong = Some(found),
        Some(wrong) => wrong.violations.extend(found.violations),
    };
    for instance in &spec.instances {
        if let Err(found) = spec.check_instance(&instance.name, schema) {
            note(found);
        }
    }
    if let Err(found) = spec.check_pipeline(schema) {
        note(found);
    }
    match wrong {
        None => Ok(()),
        Some(wrong) => Err(spec::refused(&wrong)),
    }
}

pub fn get(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::GetServiceRequest,
) -> Result<pb::GetServiceResponse> {
    Ok(pb::GetServiceResponse {
        service: Some(record(tx, &request.name)?.view(tx, cx)?),
    })
}

pub fn list(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::ListServicesRequest,
) -> Result<pb::ListServicesResponse> {
    let page = Page::of(cx, &mut request)?;
    let (services, next_token) =
        page.scan(tx, "", |record: ServiceRecord| Ok(Some(record.summary(cx))))?;
    Ok(pb::ListServicesResponse {
        next_token,
        services,
    })
}

/// A description alone changes nothing else; a spec adds and removes instances.
pub fn update(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::UpdateServiceRequest,
) -> Result<pb::UpdateServiceResponse> {
    let mut service = record(tx, &request.name)?;
    service.settled()?;
    service.description = request.description.or(service.description);
    service.modified = true;
    service.last_modified_at = Some(cx.now());
    tx.put(&service)?;
    if let Some(text) = request.spec {
        edit(tx, cx, service, text)?;
    }
    Ok(pb::UpdateServiceResponse {
        service: Some(record(tx, &request.name)?.view(tx, cx)?),
    })
}

fn edit(
    tx: &Transaction<'_>,
    cx: &Context,
    mut service: ServiceRecord,
    mut text: String,
) -> Result<()> {
    let mut spec = spec::service(&text)?;
    let before = spec::stored(service.spec_text())?;
    let there = service_instance::of_service(tx, &service.name)?;
    let added: Vec<_> = names(&spec)
        .into_iter()
        .filter(|name| there.iter().all(|instance| instance.name != *name))
        .collect();
    let version = match added.is_empty() {
        true => None,
        false => Some(service.version_for_new_instances(tx, cx)?),
    };
    let schema = version
        .as_ref()
        .map(|version| spec::schema(cx, version))
        .transpose()?;
    let used = match &schema {
        Some(schema) => Used::Instances(&added, schema),
        None => Used::Nothing,
    };
    if spec
        .resolve_current(&before, used)
        .map_err(|error| spec::refused(&error))?
    {
        text = spec::rendered(&spec)?;
    }
    let pipeline = tx.get::<PipelineRecord>(&service.name)?;
    if let Some(pipeline) = &pipeline {
        unchanged_pipeline(pipeline, &spec, &before)?;
    }
    let mut removed = Vec::new();
    // User Guide: instances whose deletion failed before count as well.
    let mut half_deleted = 0;
    for instance in there {
        let rollout = instance.rollout.clone().unwrap_or_default();
        if rollout.busy() {
            rollout.free(&instance.target())?;
        }
        match spec.instance(&instance.name) {
            Some(_) => unchanged_instance(&instance, &spec, &before)?,
            None => {
                service_instance::without_component(tx, &instance)?;
                half_deleted += usize::from(instance.status() == DeploymentStatus::DeleteFailed);
                removed.push(instance.name);
            }
        }
    }
    room_for(cx, spec.instances.len() + half_deleted)?;
    service.status = Status::UpdateInProgress.into();
    service.status_message = None;
    service.work = Some(Work {
        kind: WorkKind::Update.into(),
        phase: Phase::Adding.into(),
        added: added.clone(),
        removed,
        spec: text.clone(),
        ..Work::default()
    });
    tx.put(&service)?;
    if let Some(version) = version {
        for name in &added {
            service_instance::add(tx, cx, &service, &version, &spec, &text, name)?;
        }
    }
    progress(tx, cx, &service.name)
}

/// User Guide, "Edit a service": the pipeline's part of the spec cannot be changed by an edit.
fn unchanged_pipeline(
    pipeline: &PipelineRecord,
    spec: &ServiceSpec,
    before: &ServiceSpec,
) -> Result<()> {
    let rollout = pipeline.rollout.clone().unwrap_or_default();
    rollout.free(&Target::Pipeline {
        service: pipeline.service.clone(),
    })?;
    let nothing = serde_json::Value::Object(serde_json::Map::new());
    let inputs = |spec: &ServiceSpec| spec.pipeline.clone().unwrap_or_else(|| nothing.clone());
    if inputs(spec) != inputs(before) {
        return Err(Error::invalid_field(
            "spec",
            "`pipeline` differs from the current one; change it with UpdateServicePipeline, or \
             write ${Proton::CURRENT_VAL} for its values",
        ));
    }
    Ok(())
}

/// The same for instances that stay. One that was never deployed has no spec but what was tried
/// last, which nobody is shown, and what the service's spec says of it.
fn unchanged_instance(
    instance: &InstanceRecord,
    spec: &ServiceSpec,
    of_service: &ServiceSpec,
) -> Result<()> {
    if matches!(
        instance.status(),
        DeploymentStatus::DeleteFailed | DeploymentStatus::DeleteInProgress
    ) {
        return Err(Error::precondition(
            instance.target().tail(),
            format!(
                "the deletion of {} failed; leave it out of the spec to delete it again",
                instance.target().tail()
            ),
        ));
    }
    let part = |spec: &ServiceSpec| spec.instance(&instance.name).map(|(_, is)| is.clone());
    let after = part(spec);
    let same = part(&spec::stored(instance.base().spec())?) == after
        || (instance.current.is_none() && part(of_service) == after);
    if !same {
        return Err(Error::invalid_field(
            "spec",
            format!(
                "the instance `{}` differs from the current one; change it with \
                 UpdateServiceInstance, or write ${{Proton::CURRENT_VAL}} for its values",
                instance.name
            ),
        ));
    }
    Ok(())
}

/// Asynchronous. What is being deleted is returned again, what is gone is an empty answer.
pub fn delete(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::DeleteServiceRequest,
) -> Result<pb::DeleteServiceResponse> {
    let Some(mut service) = tx.get::<ServiceRecord>(&request.name)? else {
        return Ok(pb::DeleteServiceResponse { service: None });
    };
    if service.status() == Status::DeleteInProgress {
        return Ok(pb::DeleteServiceResponse {
            service: Some(service.view(tx, cx)?),
        });
    }
    if service.work.is_some() {
        return Err(service.busy());
    }
    let instances = service_instance::of_service(tx, &service.name)?;
    let pipeline = tx.get::<PipelineRecord>(&service.name)?;
    let idle = |rollout: &Option<Rollout>, target: Target| match rollout {
        Some(rollout) if rollout.busy() => rollout.free(&target),
        _ => Ok(()),
    };
    for instance in &instances {
        idle(&instance.rollout, instance.target())?;
        service_instance::without_component(tx, instance)?;
    }
    if let Some(pipeline) = &pipeline {
        idle(&pipeline.rollout, pipeline.target())?;
    }
    service.status = Status::DeleteInProgress.into();
    service.status_message = None;
    service.last_modified_at = Some(cx.now());
    service.modified = true;
    service.work = Some(Work {
        kind: WorkKind::Delete.into(),
        phase: Phase::Deleting.into(),
        spec: service.spec_text().to_owned(),
        ..Work::default()
    });
    tx.put(&service)?;
    for instance in instances {
        service_instance::remove(tx, cx, instance)?;
    }
    if let Some(pipeline) = pipeline {
        service_pipeline::remove(tx, cx, pipeline)?;
    }
    let view = service.clone().view(tx, cx)?;
    // A service whose last instance failed to be created and was removed has nothing to wait for.
    progress(tx, cx, &service.name)?;
    Ok(pb::DeleteServiceResponse {
        service: Some(view),
    })
}

/// Forgets a service of which nothing is left.
fn forget(tx: &Transaction<'_>, service: &ServiceRecord) -> Result<()> {
    tx.delete::<ServiceSyncRecord>(&service.name)?;
    tx.delete::<ServiceRecord>(&service.name)?;
    tag::forget(tx, &service.tail())
}
