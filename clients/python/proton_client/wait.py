"""Follows a wait to its end, through as many streams as it takes."""

import time
from collections.abc import Iterator

import grpc
from proton.v1 import waits_pb2

from proton_client.refusal import Refusal

# How often in a row a stream may break before anything was said.
ATTEMPTS = 6


def follow(wait, request, stream_seconds: float = 3600) -> Iterator[waits_pb2.WaitEvent]:
    """Yields what happens until the wait has ended.

    `wait` is a method of a WaitServiceStub. No stream lasts longer than `stream_seconds`; whatever
    ends one before the wait has ended, the next goes on after the last event. A wait that did not
    end as hoped raises grpc.RpcError.
    """
    broken = 0
    while True:
        ended = False
        try:
            for response in wait(request, timeout=stream_seconds):
                broken = 0
                event = response.event
                request.options.resume_token = event.resume_token
                ended = event.HasField("terminal")
                # Only the stream ends with this one: a deadline, or the gateway is about to stop.
                if not event.HasField("closing"):
                    yield event
        except grpc.RpcError as error:
            broken += 1
            if broken == ATTEMPTS or not _passes(Refusal.of(error)):
                raise
            time.sleep(min(0.25 * 2**broken, 5))
        if ended:
            return


def _passes(refusal: Refusal) -> bool:
    if refusal.code == grpc.StatusCode.DEADLINE_EXCEEDED:
        # The stream's own; that of the wait has a reason.
        return refusal.reason != "WAIT_TIMED_OUT"
    return refusal.code == grpc.StatusCode.UNAVAILABLE
