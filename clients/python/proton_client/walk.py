"""A walk through what a client does: proton-walk NAME

Makes an environment template of that name, and deletes it at the end.
"""

import sys
import uuid

import grpc
from proton.v1 import (
    environment_pb2,
    environment_template_pb2,
    pages_pb2,
    pages_pb2_grpc,
    proton_pb2_grpc,
    service_pb2,
    template_pb2,
    waits_pb2,
    waits_pb2_grpc,
)

from proton_client.connect import connect_from_environment
from proton_client.refusal import Refusal
from proton_client.wait import follow

# Seconds for what no service config gives a timeout.
TIMEOUT = 30
# One of the bundles that every gateway has.
BUNDLE = template_pb2.TemplateVersionSourceInput(
    s3=template_pb2.S3ObjectSource(
        bucket="proton-examples", key="environment-cloudformation.tar.gz"
    )
)


def call(proton, name: str) -> None:
    request = environment_template_pb2.CreateEnvironmentTemplateRequest(name=name)
    created = proton.CreateEnvironmentTemplate(request, timeout=TIMEOUT).environment_template
    print(f"call: environment template {created.name} was created")


def wait(waits, name: str, major: str) -> None:
    streams = 0

    def open_stream(request, timeout):
        nonlocal streams
        streams += 1
        return waits.WaitEnvironmentTemplateVersionRegistered(request, timeout=timeout)

    request = waits_pb2.WaitEnvironmentTemplateVersionRegisteredRequest(
        template_name=name, major_version=major, minor_version="0"
    )
    seen = []
    # So short that the wait outlives its first stream.
    for event in follow(open_stream, request, stream_seconds=2):
        # Each stream begins with what holds.
        if event.HasField("snapshot") and event.snapshot.status not in seen:
            seen.append(event.snapshot.status)
        elif event.HasField("transition"):
            seen.append(event.transition.to)
        elif event.HasField("terminal"):
            seen.append(waits_pb2.WaitOutcome.Name(event.terminal.outcome))
    resumed = "resumed" if streams > 1 else "in one stream"
    print(f"wait: version {major}.0: {', '.join(seen)}; {resumed}")


def register(proton, name: str, key: str):
    """The version's number, and whether the answer is that of an earlier call with the key."""
    request = environment_template_pb2.CreateEnvironmentTemplateVersionRequest(
        template_name=name, source=BUNDLE
    )
    response, answered = proton.CreateEnvironmentTemplateVersion.with_call(
        request, timeout=TIMEOUT, metadata=(("idempotency-key", key),)
    )
    replayed = dict(answered.initial_metadata()).get("idempotency-replayed") == "true"
    version = response.environment_template_version
    return f"{version.major_version}.{version.minor_version}", replayed


def retry_with_a_key(proton, name: str) -> None:
    key = str(uuid.uuid4())
    first, _ = register(proton, name, key)
    # As if the first answer had been lost.
    second, replayed = register(proton, name, key)
    print(f"key: version {first}, then {second}; {'replayed' if replayed else 'carried out'}")


def list_versions(pages, name: str) -> None:
    request = pages_pb2.PageEnvironmentTemplateVersionsRequest(
        request=environment_template_pb2.ListEnvironmentTemplateVersionsRequest(
            template_name=name, max_results=1
        )
    )
    stream = pages.PageEnvironmentTemplateVersions(request, timeout=TIMEOUT)
    for number, response in enumerate(stream, 1):
        majors = [version.major_version for version in response.page.template_versions]
        print(f"list: page {number}: {', '.join(majors)}")


def refused(send, request) -> None:
    try:
        send(request, timeout=TIMEOUT)
    except grpc.RpcError as error:
        refusal = Refusal.of(error)
        text = f"{refusal.code.name}, {refusal.reason}"
        if refusal.fields:
            text += f", in {', '.join(sorted(refusal.fields))}"
        if refusal.retry_after is not None:
            text += ", may come again later"
        print(f"refused: {text}")
    else:
        print("refused: not at all")


def clean(proton, name: str) -> None:
    for major in ("1", "2"):
        proton.DeleteEnvironmentTemplateVersion(
            environment_template_pb2.DeleteEnvironmentTemplateVersionRequest(
                template_name=name, major_version=major, minor_version="0"
            ),
            timeout=TIMEOUT,
        )
    proton.DeleteEnvironmentTemplate(
        environment_template_pb2.DeleteEnvironmentTemplateRequest(name=name), timeout=TIMEOUT
    )


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: proton-walk NAME")
    name = sys.argv[1]
    with connect_from_environment() as channel:
        proton = proton_pb2_grpc.ProtonServiceStub(channel)
        waits = waits_pb2_grpc.WaitServiceStub(channel)
        pages = pages_pb2_grpc.PaginatorServiceStub(channel)
        call(proton, name)
        register(proton, name, str(uuid.uuid4()))
        wait(waits, name, "1")
        retry_with_a_key(proton, name)
        wait(waits, name, "2")
        list_versions(pages, name)
        refused(proton.GetService, service_pb2.GetServiceRequest(name="nothing"))
        refused(proton.CreateEnvironment, environment_pb2.CreateEnvironmentRequest())
        # Only a gateway with limits refuses this, and one that costs as much as in clients/run.sh.
        refused(
            proton.UpdateEnvironmentTemplate,
            environment_template_pb2.UpdateEnvironmentTemplateRequest(name=name),
        )
        clean(proton, name)


if __name__ == "__main__":
    main()
