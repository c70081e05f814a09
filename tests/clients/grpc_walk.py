"""Calls the gateway with what its reflection says and no generated code: grpc_walk.py ADDRESS"""

import sys

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from checks import Checks, contains, eventually, same

channel = grpc.insecure_channel(sys.argv[1])
database = ProtoReflectionDescriptorDatabase(channel)
pool = descriptor_pool.DescriptorPool(database)
checks = Checks()
SECONDS = 10


def service(name):
    return pool.FindServiceByName(name)


def stub(method):
    """A callable for a method that reflection describes, and the class of its requests."""
    request = message_factory.GetMessageClass(method.input_type)
    response = message_factory.GetMessageClass(method.output_type)
    make = channel.unary_stream if method.server_streaming else channel.unary_unary
    call = make(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    return call, request


def call(name, /, **fields):
    method = service("proton.v1.ProtonService").methods_by_name[name]
    send, request = stub(method)
    return send(request(**fields), timeout=SECONDS)


def raw(name, data):
    """Sends bytes that need not be a message."""
    send = channel.unary_unary(
        f"/proton.v1.ProtonService/{name}",
        request_serializer=lambda data: data,
        response_deserializer=lambda data: data,
    )
    return send(data, timeout=SECONDS)


def refused(code, send, /, *arguments, **fields):
    """The details of a refusal by their types; each has an ErrorInfo."""
    try:
        answer = send(*arguments, **fields)
    except grpc.RpcError as error:
        same(error.code(), code)
        status = rpc_status.from_call(error)
        details = {}
        for packed in status.details if status else ():
            kind = packed.TypeName().rsplit(".", 1)[1]
            details[kind] = getattr(error_details_pb2, kind)()
            packed.Unpack(details[kind])
        contains(details, "ErrorInfo")
        same(details["ErrorInfo"].domain, "proton-gateway")
        details["trailers"] = dict(error.trailing_metadata())
        return details
    raise AssertionError(f"accepted: {answer}")


print("reflection")
with checks.that("all services are listed, and no other"):
    same(
        set(database.get_services()),
        {
            "proton.v1.ProtonService",
            "proton.v1.WaitService",
            "proton.v1.PaginatorService",
            "proton.gateway.v1.GatewayService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        },
    )
with checks.that("ProtonService has the 87 operations of the API"):
    same(len(service("proton.v1.ProtonService").methods), 87)
with checks.that("what an operation is can be read from its options"):
    method = service("proton.v1.ProtonService").methods_by_name["GetService"]
    # Options as the server's own descriptors know them, not as this package does.
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("google.protobuf.MethodOptions"))
    options = kind.FromString(method.GetOptions().SerializeToString())
    found = {field.full_name: value for field, value in options.ListFields()}
    same(found["google.protobuf.MethodOptions.idempotency_level"], kind.NO_SIDE_EFFECTS)
    own = [value for name, value in found.items() if name.startswith("proton.policy.v1.")]
    assert own and own[0].ListFields(), found

print("calls")
with checks.that("a template is created, read, listed and deleted"):
    made = call("CreateEnvironmentTemplate", name="reflected", tags=[{"key": "by", "value": "reflection"}])
    same(made.environment_template.name, "reflected")
    assert made.environment_template.created_at.ToSeconds() > 1_600_000_000
    same(call("GetEnvironmentTemplate", name="reflected").environment_template, made.environment_template)
    listed = call("ListEnvironmentTemplates", max_results=100)
    contains([template.name for template in listed.templates], "reflected")
    call("DeleteEnvironmentTemplate", name="reflected")
with checks.that("deleting it again succeeds with nothing"):
    assert not call("DeleteEnvironmentTemplate", name="reflected").HasField("environment_template")
with checks.that("an answer names its request, in the caller's words if there are any"):
    send, request = stub(service("proton.v1.ProtonService").methods_by_name["ListServices"])
    _, answered = send.with_call(request(), timeout=SECONDS, metadata=(("x-request-id", "walk-1"),))
    headers = dict(answered.initial_metadata())
    same(headers.get("x-request-id"), "walk-1")

print("refusals")
with checks.that("what does not exist is NOT_FOUND with ResourceInfo, and need not be repeated"):
    details = refused(grpc.StatusCode.NOT_FOUND, call, "GetService", name="nothing")
    same(details["ErrorInfo"].reason, "RESOURCE_NOT_FOUND")
    same(details["ErrorInfo"].metadata["operation"], "GetService")
    same(details["ErrorInfo"].metadata["aws_error_code"], "ResourceNotFoundException")
    same(details["ResourceInfo"].resource_name, "nothing")
    assert "RetryInfo" not in details
    same(details["trailers"].get("grpc-retry-pushback-ms"), "-1")
with checks.that("an empty message is refused with all that is missing"):
    details = refused(grpc.StatusCode.INVALID_ARGUMENT, call, "CreateEnvironment")
    fields = {violation.field for violation in details["BadRequest"].field_violations}
    assert {"name", "spec", "template_name", "template_major_version"} <= fields, fields
with checks.that("a creation otherwise is an idempotency mismatch"):
    call("CreateEnvironmentTemplate", name="twice")
    details = refused(
        grpc.StatusCode.INVALID_ARGUMENT, call, "CreateEnvironmentTemplate", name="twice", description="other"
    )
    same(details["ErrorInfo"].reason, "IDEMPOTENCY_MISMATCH")
    call("DeleteEnvironmentTemplate", name="twice")
with checks.that("a string that is no UTF-8 is refused"):
    details = refused(grpc.StatusCode.INVALID_ARGUMENT, raw, "GetService", b"\x0a\x02\xff\xfe")
    same(details["ErrorInfo"].reason, "UNREADABLE_REQUEST")
with checks.that("bytes that are no message are refused"):
    refused(grpc.StatusCode.INVALID_ARGUMENT, raw, "GetService", b"\x0a\x7fshort")
with checks.that("a message that is too large is refused"):
    data = b"\x0a\x80\x80\x80\x01" + b"x" * (2 << 20)
    details = refused(grpc.StatusCode.INVALID_ARGUMENT, raw, "GetService", data)
    contains(details["ErrorInfo"].reason, "UNREADABLE_REQUEST")
with checks.that("an empty body of a call without fields is fine"):
    raw("GetResourcesSummary", b"")
with checks.that("a method that there is not is UNIMPLEMENTED"):
    refused(grpc.StatusCode.UNIMPLEMENTED, raw, "NoSuchMethod", b"")
with checks.that("a service that there is not is UNIMPLEMENTED"):
    send = channel.unary_unary(
        "/no.such.Service/Call", request_serializer=lambda data: data, response_deserializer=lambda data: data
    )
    refused(grpc.StatusCode.UNIMPLEMENTED, send, b"", timeout=SECONDS)
print("streams")
waits = service("proton.v1.WaitService")
with checks.that("a wait tells how a registration ends, and only once"):
    call("CreateEnvironmentTemplate", name="awaited")
    source = {"s3": {"bucket": "proton-examples", "key": "environment-cloudformation.tar.gz"}}
    call("CreateEnvironmentTemplateVersion", template_name="awaited", source=source)
    send, request = stub(waits.methods_by_name["WaitEnvironmentTemplateVersionRegistered"])
    names = {"template_name": "awaited", "major_version": "1", "minor_version": "0"}
    events = [answer.event for answer in send(request(**names), timeout=SECONDS)]
    same([event.sequence for event in events], list(range(1, len(events) + 1)))
    same([event.HasField("terminal") for event in events], [False] * (len(events) - 1) + [True])
    assert events[-1].terminal.success, events[-1]
with checks.that("a failure ends a wait with a status that has details"):
    source = {"s3": {"bucket": "proton-examples", "key": "nothing.tar.gz"}}
    call("CreateEnvironmentTemplateVersion", template_name="awaited", source=source)
    failed = {**names, "major_version": "2"}
    details = refused(
        grpc.StatusCode.FAILED_PRECONDITION, lambda: list(send(request(**failed), timeout=SECONDS))
    )
    same(details["ErrorInfo"].reason, "WAIT_FAILED")
with checks.that("a wait for what is not there is NOT_FOUND before any event"):
    nothing = {**names, "template_name": "nothing"}
    refused(grpc.StatusCode.NOT_FOUND, lambda: list(send(request(**nothing), timeout=SECONDS)))
with checks.that("a list comes in pages, in order"):
    paginator = service("proton.v1.PaginatorService")
    send, request = stub(paginator.methods_by_name["PageEnvironmentTemplateVersions"])
    asked = request(request={"template_name": "awaited", "max_results": 1})
    pages = [answer.page for answer in send(asked, timeout=SECONDS)]
    same([version.major_version for page in pages for version in page.template_versions], ["1", "2"])
    same(len(pages), 2)

print("health")
health = service("grpc.health.v1.Health")
SERVING = 1
with checks.that("the server and ProtonService are serving"):
    send, request = stub(health.methods_by_name["Check"])
    for name in ("", "proton.v1.ProtonService"):
        same(send(request(service=name), timeout=SECONDS).status, SERVING)
with checks.that("the health of an unknown service is NOT_FOUND"):
    refused(grpc.StatusCode.NOT_FOUND, send, request(service="nothing"), timeout=SECONDS)
with checks.that("a watch says at once what holds"):
    send, request = stub(health.methods_by_name["Watch"])
    stream = send(request(), timeout=SECONDS)
    same(next(stream).status, SERVING)
    stream.cancel()
with checks.that("the list has each service, and what the gateway depends on"):
    if "List" not in health.methods_by_name:
        raise AssertionError("reflection knows no List")
    send, request = stub(health.methods_by_name["List"])
    statuses = send(request(), timeout=SECONDS).statuses
    same(
        {name: answer.status for name, answer in statuses.items()},
        {
            "": 1,
            "proton.v1.ProtonService": 1,
            "proton.v1.WaitService": 1,
            "proton.v1.PaginatorService": 1,
            "proton.gateway.v1.GatewayService": 1,
            "store": 1,
            "listener.grpc": 1,
            "listener.aws": 1,
        },
    )
with checks.that("after all that the server still answers"):
    eventually(lambda: call("GetResourcesSummary").HasField("counts"))

checks.finish()
