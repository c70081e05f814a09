"""Walks through Proton with boto3: boto3_walk.py ENDPOINT EXAMPLES

Everything but the endpoint is as a program for AWS would do it. Waiters poll faster than they
would there, as nothing real is provisioned here.
"""

import pathlib
import sys

import boto3
import botocore.config
import botocore.exceptions
import yaml

from checks import Checks, contains, eventually, same

endpoint, examples = sys.argv[1], pathlib.Path(sys.argv[2])
proton = boto3.client(
    "proton",
    endpoint_url=endpoint,
    region_name="us-east-1",
    aws_access_key_id="example",
    aws_secret_access_key="example",
    # Errors are to be seen as they come.
    config=botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=30),
)
errors = proton.exceptions
checks = Checks()
FAST = {"Delay": 0.2, "MaxAttempts": 150}
ROLE = "arn:aws:iam::123456789012:role/proton"
CONNECTION = "arn:aws:codestar-connections:us-east-1:123456789012:connection/01234567-89ab-cdef-0123-456789abcdef"


def spec(name):
    return (examples / "specs" / f"{name}.yaml").read_text()


def source(name):
    return {"s3": {"bucket": "proton-examples", "key": f"{name}.tar.gz"}}


def wait(waiter, **arguments):
    proton.get_waiter(waiter).wait(WaiterConfig=FAST, **arguments)


def pages(operation, key, **arguments):
    """All items of a list in pages of one, and how many pages it took."""
    paginator = proton.get_paginator(operation)
    found = list(paginator.paginate(PaginationConfig={"PageSize": 1}, **arguments))
    return [item for page in found for item in page[key]], len(found)


def refused(exception, call, **arguments):
    """The text of a refusal, which must be of the given modelled exception."""
    try:
        answer = call(**arguments)
    except exception as error:
        same(error.response["ResponseMetadata"]["HTTPStatusCode"], 400)
        assert error.response["ResponseMetadata"]["RequestId"], "a refusal has a request id"
        return error.response["Error"]["Message"]
    raise AssertionError(f"accepted: {answer}")


def gone(call, **arguments):
    def probe():
        try:
            call(**arguments)
        except errors.ResourceNotFoundException:
            return True
        return False

    eventually(probe)


def register(kind, name, bundle, **arguments):
    """Registers a bundle and publishes it; kind is environment or service."""
    create = getattr(proton, f"create_{kind}_template_version")
    key = f"{kind}TemplateVersion"
    version = create(templateName=name, source=source(bundle), **arguments)[key]
    same(version["status"], "REGISTRATION_IN_PROGRESS")
    numbers = {k: version[k] for k in ("majorVersion", "minorVersion")}
    wait(f"{kind}_template_version_registered", templateName=name, **numbers)
    publish = getattr(proton, f"update_{kind}_template_version")
    published = publish(templateName=name, status="PUBLISHED", **numbers)[key]
    same(published["status"], "PUBLISHED")
    return published


print("templates")
with checks.that("an environment template is created, and created again with the same answer"):
    made = proton.create_environment_template(
        name="bus", displayName="Event bus", tags=[{"key": "team", "value": "platform"}]
    )["environmentTemplate"]
    again = proton.create_environment_template(
        name="bus", displayName="Event bus", tags=[{"key": "team", "value": "platform"}]
    )["environmentTemplate"]
    same(again["arn"], made["arn"])
    same(made["arn"].split(":", 5)[5], "environment-template/bus")
with checks.that("creating it otherwise is an idempotency mismatch"):
    text = refused(
        errors.ValidationException, proton.create_environment_template, name="bus", displayName="Other"
    )
    contains(text, "Idempotent parameter mismatch")
with checks.that("a version is registered from a bucket and published"):
    version = register("environment", "bus", "environment-cloudformation")
    same((version["majorVersion"], version["minorVersion"]), ("1", "0"))
    contains(version["schema"], "EventBusInput")
with checks.that("the published version is the recommended one"):
    template = proton.get_environment_template(name="bus")["environmentTemplate"]
    same(template["recommendedVersion"], "1.0")
with checks.that("the same client token makes the same version, and no other"):
    arguments = dict(templateName="bus", majorVersion="1", clientToken="once", source=source("environment-cloudformation"))
    first = proton.create_environment_template_version(**arguments)["environmentTemplateVersion"]
    second = proton.create_environment_template_version(**arguments)["environmentTemplateVersion"]
    same(second["arn"], first["arn"])
    same(first["minorVersion"], "1")
with checks.that("a service template with a pipeline is registered and published"):
    proton.create_service_template(name="worker", displayName="Worker")
    version = register(
        "service",
        "worker",
        "service-cloudformation",
        compatibleEnvironmentTemplates=[{"templateName": "bus", "majorVersion": "1"}],
        supportedComponentSources=["DIRECTLY_DEFINED"],
    )
    same(version["compatibleEnvironmentTemplates"], [{"templateName": "bus", "majorVersion": "1"}])
with checks.that("a bundle of the other kind fails to register, and the waiter says so"):
    version = proton.create_service_template_version(
        templateName="worker",
        source=source("environment-cloudformation"),
        compatibleEnvironmentTemplates=[{"templateName": "bus", "majorVersion": "1"}],
    )["serviceTemplateVersion"]
    numbers = {k: version[k] for k in ("majorVersion", "minorVersion")}
    try:
        wait("service_template_version_registered", templateName="worker", **numbers)
        raise AssertionError("registered")
    except botocore.exceptions.WaiterError as error:
        failed = error.last_response["serviceTemplateVersion"]
    same(failed["status"], "REGISTRATION_FAILED")
    contains(failed["statusMessage"], "Missing property [pipelineInputType]")
    proton.delete_service_template_version(templateName="worker", **numbers)
with checks.that("an object that is not in the bucket fails to register with its name"):
    version = proton.create_environment_template_version(
        templateName="bus", majorVersion="1", source=source("nothing")
    )["environmentTemplateVersion"]
    numbers = {k: version[k] for k in ("majorVersion", "minorVersion")}
    eventually(
        lambda: proton.get_environment_template_version(templateName="bus", **numbers)[
            "environmentTemplateVersion"
        ]["status"]
        == "REGISTRATION_FAILED"
    )
    failed = proton.get_environment_template_version(templateName="bus", **numbers)["environmentTemplateVersion"]
    contains(failed["statusMessage"], "nothing.tar.gz")

print("environment")
with checks.that("an environment is deployed"):
    made = proton.create_environment(
        name="events",
        templateName="bus",
        templateMajorVersion="1",
        protonServiceRoleArn=ROLE,
        spec=spec("environment-cloudformation"),
        tags=[{"key": "stage", "value": "test"}],
    )["environment"]
    same(made["deploymentStatus"], "IN_PROGRESS")
    wait("environment_deployed", name="events")
with checks.that("it says its version, its spec as it was written, and when it was deployed"):
    environment = proton.get_environment(name="events")["environment"]
    same((environment["templateMajorVersion"], environment["templateMinorVersion"]), ("1", "0"))
    same(environment["spec"], spec("environment-cloudformation"))
    same(environment["lastSucceededDeploymentId"], environment["lastAttemptedDeploymentId"])
    assert environment["lastDeploymentSucceededAt"].year >= 2024, environment["lastDeploymentSucceededAt"]
with checks.that("it says that nothing was provisioned, and has no outputs that nobody reported"):
    same(environment["deploymentStatusMessage"], "Simulated: nothing was provisioned.")
    same(proton.list_environment_outputs(environmentName="events")["outputs"], [])
with checks.that("outputs that are reported without a status are there afterwards"):
    outputs = [{"key": "TopicArn", "valueString": "arn:aws:sns:us-east-1:123456789012:events"}]
    proton.notify_resource_deployment_status_change(resourceArn=environment["arn"], outputs=outputs)
    same(proton.list_environment_outputs(environmentName="events")["outputs"], outputs)
with checks.that("its provisioned resources can be listed"):
    resources = proton.list_environment_provisioned_resources(environmentName="events")["provisionedResources"]
    for resource in resources:
        same(resource["provisioningEngine"], "CLOUDFORMATION")
with checks.that("a spec that breaks the schema is refused with the path of the input"):
    text = refused(
        errors.ValidationException,
        proton.create_environment,
        name="wrong",
        templateName="bus",
        templateMajorVersion="1",
        protonServiceRoleArn=ROLE,
        spec="proton: EnvironmentSpec\nspec: {owner: platform, retention_days: 15}",
    )
    contains(text, "retention_days")
with checks.that("a spec that is no YAML is refused in Proton's words"):
    text = refused(
        errors.ValidationException,
        proton.create_environment,
        name="wrong",
        templateName="bus",
        templateMajorVersion="1",
        protonServiceRoleArn=ROLE,
        spec="proton: [",
    )
    contains(text, "was not correctly formatted")
with checks.that("a template that does not exist is a ResourceNotFoundException"):
    refused(
        errors.ResourceNotFoundException,
        proton.create_environment,
        name="wrong",
        templateName="no-such-template",
        templateMajorVersion="1",
        protonServiceRoleArn=ROLE,
        spec=spec("environment-cloudformation"),
    )
with checks.that("a new minor version is taken by an update of that type"):
    proton.update_environment_template_version(
        templateName="bus", majorVersion="1", minorVersion="1", status="PUBLISHED"
    )
    proton.update_environment(name="events", deploymentType="MINOR_VERSION", protonServiceRoleArn=ROLE)
    wait("environment_deployed", name="events")
    same(proton.get_environment(name="events")["environment"]["templateMinorVersion"], "1")

print("service")
with checks.that("the role of pipelines is set for the account"):
    proton.update_account_settings(pipelineServiceRoleArn=ROLE)
    same(proton.get_account_settings()["accountSettings"]["pipelineServiceRoleArn"], ROLE)
with checks.that("a service with two instances and a pipeline is created"):
    made = proton.create_service(
        name="orders",
        templateName="worker",
        templateMajorVersion="1",
        repositoryConnectionArn=CONNECTION,
        repositoryId="example/orders",
        branchName="main",
        spec=spec("service-cloudformation"),
        tags=[{"key": "stage", "value": "test"}],
    )["service"]
    same(made["status"], "CREATE_IN_PROGRESS")
    wait("service_created", name="orders")
with checks.that("its pipeline and its instances are deployed"):
    wait("service_pipeline_deployed", name="orders")
    for name in ("canary", "main"):
        wait("service_instance_deployed", name=name, serviceName="orders")
with checks.that("its spec comes back as it was written"):
    same(proton.get_service(name="orders")["service"]["spec"], spec("service-cloudformation"))
with checks.that("outputs of instances and pipeline can be listed"):
    proton.list_service_instance_outputs(serviceName="orders", serviceInstanceName="main")
    proton.list_service_pipeline_outputs(serviceName="orders")
with checks.that("provisioned resources of instances and pipeline can be listed"):
    proton.list_service_instance_provisioned_resources(serviceName="orders", serviceInstanceName="main")
    proton.list_service_pipeline_provisioned_resources(serviceName="orders")
with checks.that("a pipeline ships an image to one instance after the other, as AWS's samples do"):
    shipped = yaml.safe_load(proton.get_service(name="orders")["service"]["spec"])
    for instance in shipped["instances"]:
        instance.setdefault("spec", {})["image"] = "registry.example/orders:42"
    for name in ("canary", "main"):
        answer = proton.update_service_instance(
            name=name, serviceName="orders", deploymentType="CURRENT_VERSION", spec=yaml.safe_dump(shipped)
        )["serviceInstance"]
        same(answer["deploymentStatus"], "IN_PROGRESS")
        wait("service_instance_deployed", name=name, serviceName="orders")
        deployed = proton.get_service_instance(name=name, serviceName="orders")["serviceInstance"]
        inputs = {i["name"]: i["spec"] for i in yaml.safe_load(deployed["spec"])["instances"]}
        same(inputs[name]["image"], "registry.example/orders:42")
with checks.that("the service's own spec then has the image of both instances"):
    current = yaml.safe_load(proton.get_service(name="orders")["service"]["spec"])
    same([i["spec"]["image"] for i in current["instances"]], ["registry.example/orders:42"] * 2)
with checks.that("a value may stay as it is by ${Proton::CURRENT_VAL}"):
    kept = yaml.safe_load(proton.get_service(name="orders")["service"]["spec"])
    for instance in kept["instances"]:
        instance["spec"]["image"] = "${Proton::CURRENT_VAL}"
        instance["spec"]["batch_size"] = 1
    proton.update_service_instance(
        name="canary", serviceName="orders", deploymentType="CURRENT_VERSION", spec=yaml.safe_dump(kept)
    )
    wait("service_instance_deployed", name="canary", serviceName="orders")
    instance = proton.get_service_instance(name="canary", serviceName="orders")["serviceInstance"]
    inputs = yaml.safe_load(instance["spec"])["instances"][0]["spec"]
    same((inputs["image"], inputs["batch_size"]), ("registry.example/orders:42", 1))
with checks.that("an edit of the service removes one instance and adds another"):
    edited = yaml.safe_load(proton.get_service(name="orders")["service"]["spec"])
    edited["instances"] = [i for i in edited["instances"] if i["name"] != "canary"]
    edited["instances"].append({"name": "batch", "environment": "events"})
    answer = proton.update_service(name="orders", spec=yaml.safe_dump(edited))["service"]
    same(answer["status"], "UPDATE_IN_PROGRESS")
    wait("service_updated", name="orders")
    names = {i["name"] for i in proton.list_service_instances(serviceName="orders")["serviceInstances"]}
    same(names, {"main", "batch"})
    refused(errors.ResourceNotFoundException, proton.get_service_instance, name="canary", serviceName="orders")
with checks.that("the pipeline is deployed by itself"):
    proton.update_service_pipeline(
        serviceName="orders",
        deploymentType="CURRENT_VERSION",
        spec=proton.get_service(name="orders")["service"]["spec"],
    )
    wait("service_pipeline_deployed", name="orders")

print("component")
MANIFEST = "infrastructure:\n  templates:\n    - {file: bucket.yaml, rendering_engine: jinja, template_language: cloudformation}\n"
BUCKET = "Resources:\n  Bucket: {Type: AWS::S3::Bucket}\nOutputs:\n  BucketName: {Value: !Ref Bucket}\n"
with checks.that("a component is attached, deployed, detached and deleted"):
    proton.update_environment(
        name="events", deploymentType="NONE", componentRoleArn=ROLE, protonServiceRoleArn=ROLE
    )
    proton.create_component(
        name="scratch",
        manifest=MANIFEST,
        templateFile=BUCKET,
        serviceName="orders",
        serviceInstanceName="main",
        serviceSpec=proton.get_service(name="orders")["service"]["spec"],
    )
    wait("component_deployed", name="scratch")
    refused(errors.ConflictException, proton.delete_component, name="scratch")
    proton.update_component(
        name="scratch", deploymentType="CURRENT_VERSION", serviceName="", serviceInstanceName=""
    )
    wait("component_deployed", name="scratch")
    refused(errors.ConflictException, proton.delete_environment, name="events")
    proton.delete_component(name="scratch")
    wait("component_deleted", name="scratch")

print("lists, tags and records")
with checks.that("deployments are listed in pages and read one by one"):
    found, count = pages("list_deployments", "deployments", serviceName="orders", serviceInstanceName="main")
    assert len(found) >= 2 and count >= len(found), (len(found), count)
    deployment = proton.get_deployment(id=found[0]["id"])["deployment"]
    same(deployment["deploymentStatus"], "SUCCEEDED")
    same(deployment["targetResourceType"], "SERVICE_INSTANCE")
    contains(deployment["targetState"], "serviceInstance")
with checks.that("the record of a deployment is deleted, and then it is gone"):
    oldest = found[-1]["id"]
    proton.delete_deployment(id=oldest)
    refused(errors.ResourceNotFoundException, proton.get_deployment, id=oldest)
with checks.that("each list with pages gives every item once"):
    for operation, key, arguments in (
        ("list_environment_templates", "templates", {}),
        ("list_environment_template_versions", "templateVersions", {"templateName": "bus", "majorVersion": "1"}),
        ("list_service_templates", "templates", {}),
        ("list_service_template_versions", "templateVersions", {"templateName": "worker", "majorVersion": "1"}),
        ("list_environments", "environments", {}),
        ("list_services", "services", {}),
        ("list_service_instances", "serviceInstances", {}),
        ("list_components", "components", {}),
        ("list_repositories", "repositories", {}),
        ("list_environment_account_connections", "environmentAccountConnections", {"requestedBy": "MANAGEMENT_ACCOUNT"}),
    ):
        found, _ = pages(operation, key, **arguments)
        names = [str(item.get("arn")) for item in found]
        same(sorted(set(names)), sorted(names))
        whole = [item for page in proton.get_paginator(operation).paginate(**arguments) for item in page[key]]
        same(found, whole)
with checks.that("instances are filtered and sorted"):
    found = proton.list_service_instances(
        filters=[{"key": "name", "value": "main"}], sortBy="name", sortOrder="DESCENDING"
    )["serviceInstances"]
    same([instance["name"] for instance in found], ["main"])
with checks.that("environments are filtered by template"):
    found = proton.list_environments(environmentTemplates=[{"templateName": "bus", "majorVersion": "1"}])
    same([environment["name"] for environment in found["environments"]], ["events"])
with checks.that("a token that was not given out is refused"):
    refused(errors.ValidationException, proton.list_environments, nextToken="bm9uc2Vuc2U=")
with checks.that("tags are added, listed in pages and removed"):
    arn = proton.get_environment(name="events")["environment"]["arn"]
    proton.tag_resource(resourceArn=arn, tags=[{"key": "a", "value": "1"}, {"key": "b", "value": "2"}])
    found, _ = pages("list_tags_for_resource", "tags", resourceArn=arn)
    own = {tag["key"]: tag["value"] for tag in found if not tag["key"].startswith("aws:")}
    same(own, {"stage": "test", "a": "1", "b": "2"})
    proton.untag_resource(resourceArn=arn, tagKeys=["a", "b"])
    found, _ = pages("list_tags_for_resource", "tags", resourceArn=arn)
    same([tag["key"] for tag in found if not tag["key"].startswith("aws:")], ["stage"])
with checks.that("the summary counts what there is"):
    counts = proton.get_resources_summary()["counts"]
    same(counts["environments"]["total"], 1)
    same(counts["services"]["total"], 1)
    same(counts["serviceInstances"]["total"], 2)

print("self-managed")
with checks.that("a repository is linked"):
    proton.create_repository(provider="GITHUB", name="example/infrastructure", connectionArn=CONNECTION)
    found = proton.get_repository(provider="GITHUB", name="example/infrastructure")["repository"]
    same(found["connectionArn"], CONNECTION)
REPOSITORY = {"provider": "GITHUB", "name": "example/infrastructure", "branch": "main"}
with checks.that("a self-managed environment waits until it is reported"):
    proton.create_environment_template(name="storage")
    register("environment", "storage", "environment-terraform")
    proton.create_environment(
        name="storage",
        templateName="storage",
        templateMajorVersion="1",
        provisioningRepository=REPOSITORY,
        spec=spec("environment-terraform"),
    )
    environment = proton.get_environment(name="storage")["environment"]
    same(environment["deploymentStatus"], "IN_PROGRESS")
with checks.that("meanwhile an update is a ConflictException"):
    refused(
        errors.ConflictException,
        proton.update_environment,
        name="storage",
        deploymentType="CURRENT_VERSION",
        spec=spec("environment-terraform"),
    )
with checks.that("a report without a status stores outputs, and one with it ends the deployment"):
    report = dict(resourceArn=environment["arn"], deploymentId=environment["lastAttemptedDeploymentId"])
    outputs = [
        {"key": "key_arn", "valueString": "arn:aws:kms:us-east-1:123456789012:key/1"},
        {"key": "access_log_bucket", "valueString": "access-log-1"},
    ]
    proton.notify_resource_deployment_status_change(outputs=outputs, **report)
    same(proton.get_environment(name="storage")["environment"]["deploymentStatus"], "IN_PROGRESS")
    proton.notify_resource_deployment_status_change(status="SUCCEEDED", outputs=outputs, **report)
    wait("environment_deployed", name="storage")
    same(proton.list_environment_outputs(environmentName="storage")["outputs"], outputs)
with checks.that("an update is cancelled, and the environment stays as it was"):
    proton.update_environment(
        name="storage",
        deploymentType="CURRENT_VERSION",
        spec='proton: EnvironmentSpec\nspec: {cost_center: "0815"}',
    )
    answer = proton.cancel_environment_deployment(environmentName="storage")["environment"]
    contains(("CANCELLING", "CANCELLED"), answer["deploymentStatus"])
    eventually(
        lambda: proton.get_environment(name="storage")["environment"]["deploymentStatus"] == "CANCELLED"
    )
    environment = proton.get_environment(name="storage")["environment"]
    same(environment["deploymentStatusMessage"], "User initiated cancellation.")
    same(environment["spec"], spec("environment-terraform"))
with checks.that("a service without a pipeline is registered and created"):
    proton.create_service_template(name="bucket", pipelineProvisioning="CUSTOMER_MANAGED")
    register(
        "service",
        "bucket",
        "service-terraform",
        compatibleEnvironmentTemplates=[{"templateName": "storage", "majorVersion": "1"}],
    )
    proton.create_service(
        name="files", templateName="bucket", templateMajorVersion="1", spec=spec("service-terraform")
    )
    instance = eventually(
        lambda: proton.get_service_instance(name="uploads", serviceName="files")["serviceInstance"]
    )
    same(instance["deploymentStatus"], "IN_PROGRESS")
    proton.notify_resource_deployment_status_change(
        resourceArn=instance["arn"],
        deploymentId=instance["lastAttemptedDeploymentId"],
        status="SUCCEEDED",
        outputs=[{"key": "bucket", "valueString": "files-uploads-1"}],
    )
    wait("service_created", name="files")
    assert "pipeline" not in proton.get_service(name="files")["service"]
with checks.that("a failure that is reported shows with its text, and its waiter fails"):
    proton.update_service_instance(
        name="uploads", serviceName="files", deploymentType="CURRENT_VERSION", spec=spec("service-terraform")
    )
    instance = proton.get_service_instance(name="uploads", serviceName="files")["serviceInstance"]
    proton.notify_resource_deployment_status_change(
        resourceArn=instance["arn"],
        deploymentId=instance["lastAttemptedDeploymentId"],
        status="FAILED",
        statusMessage="apply failed",
    )
    try:
        wait("service_instance_deployed", name="uploads", serviceName="files")
        raise AssertionError("deployed")
    except botocore.exceptions.WaiterError as error:
        contains(error.last_response["serviceInstance"]["deploymentStatusMessage"], "apply failed")

print("refusals")
with checks.that("a name that the model does not allow is a ValidationException"):
    refused(errors.ValidationException, proton.create_service_template, name="-wrong-")
with checks.that("what does not exist is a ResourceNotFoundException"):
    for call, arguments in (
        (proton.get_environment, {"name": "nothing"}),
        (proton.get_service, {"name": "nothing"}),
        (proton.get_service_instance, {"name": "nothing", "serviceName": "orders"}),
        (proton.get_environment_template, {"name": "nothing"}),
        (proton.list_environment_outputs, {"environmentName": "nothing"}),
    ):
        refused(errors.ResourceNotFoundException, call, **arguments)
with checks.that("an environment with instances in it cannot be deleted"):
    refused(errors.ConflictException, proton.delete_environment, name="events")
with checks.that("a template version that is in use cannot be deleted"):
    refused(
        errors.ConflictException,
        proton.delete_environment_template_version,
        templateName="bus",
        majorVersion="1",
        minorVersion="1",
    )

print("deletes")
with checks.that("services are deleted, and deleting them again succeeds with nothing"):
    for name in ("orders", "files"):
        same(proton.delete_service(name=name)["service"]["status"], "DELETE_IN_PROGRESS")
        wait("service_deleted", name=name)
        assert "service" not in proton.delete_service(name=name)
with checks.that("environments are deleted"):
    for name in ("events", "storage"):
        same(proton.delete_environment(name=name)["environment"]["deploymentStatus"], "DELETE_IN_PROGRESS")
        gone(proton.get_environment, name=name)
with checks.that("templates are deleted after their versions"):
    for kind, names in (("service", ("worker", "bucket")), ("environment", ("bus", "storage"))):
        versions = getattr(proton, f"list_{kind}_template_versions")
        delete = getattr(proton, f"delete_{kind}_template_version")
        for name in names:
            refused(errors.ConflictException, getattr(proton, f"delete_{kind}_template"), name=name)
            found = versions(templateName=name, majorVersion="1")["templateVersions"]
            # The recommended minor version goes last.
            recommended = getattr(proton, f"get_{kind}_template")(name=name)[f"{kind}Template"]["recommendedVersion"]
            found.sort(key=lambda v: f"{v['majorVersion']}.{v['minorVersion']}" == recommended)
            for version in found:
                delete(
                    templateName=name,
                    majorVersion=version["majorVersion"],
                    minorVersion=version["minorVersion"],
                )
            getattr(proton, f"delete_{kind}_template")(name=name)
            refused(errors.ResourceNotFoundException, getattr(proton, f"get_{kind}_template"), name=name)
with checks.that("the repository is unlinked"):
    proton.delete_repository(provider="GITHUB", name="example/infrastructure")
    same(proton.list_repositories()["repositories"], [])
with checks.that("nothing is left"):
    counts = proton.get_resources_summary()["counts"]
    same({name: count["total"] for name, count in counts.items() if count["total"]}, {})

checks.finish()
