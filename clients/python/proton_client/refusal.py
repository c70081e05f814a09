"""What an error of the gateway says, out of its details."""

from dataclasses import dataclass, field

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


@dataclass(frozen=True)
class Refusal:
    code: grpc.StatusCode
    message: str
    # A word that stays the same, such as RESOURCE_NOT_FOUND, and facts about it.
    reason: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    # What is wrong with which field of the request.
    fields: dict[str, str] = field(default_factory=dict)
    # Seconds after which the same call may succeed; None: never by itself.
    retry_after: float | None = None

    @classmethod
    def of(cls, error: grpc.RpcError) -> "Refusal":
        said: dict = {}
        status = rpc_status.from_call(error)
        for detail in status.details if status else ():
            info = error_details_pb2.ErrorInfo()
            bad_request = error_details_pb2.BadRequest()
            retry = error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                said |= {"reason": info.reason, "facts": dict(info.metadata)}
            elif detail.Unpack(bad_request):
                violations = bad_request.field_violations
                said["fields"] = {each.field: each.description for each in violations}
            elif detail.Unpack(retry):
                said["retry_after"] = retry.retry_delay.ToTimedelta().total_seconds()
        return cls(error.code(), error.details() or "", **said)
