"""What a client with the gateway's service config sends again, and what it does not."""

import os
import unittest
from concurrent import futures
from pathlib import Path

import grpc
from proton.v1 import (
    environment_pb2,
    environment_template_pb2,
    proton_pb2_grpc,
    service_pb2,
    waits_pb2,
    waits_pb2_grpc,
)

from proton_client.connect import connect

CONFIG = Path(os.environ.get("PROTON_GATEWAY_SERVICE_CONFIG", "../service-config.json"))


class Failing(grpc.GenericRpcHandler):
    """Refuses the first two attempts, and answers the next with one empty message."""

    def __init__(self, code, trailers):
        self.attempts = 0
        self._code = code
        self._trailers = trailers

    def service(self, handler_call_details):
        # A unary call is a stream of one answer to this side.
        return grpc.unary_stream_rpc_method_handler(self._answer)

    def _answer(self, _request, context):
        self.attempts += 1
        if self.attempts <= 2:
            context.set_trailing_metadata(self._trailers)
            context.abort(self._code, "not yet")
        yield b""


class Retries(unittest.TestCase):
    def gateway(self, code=grpc.StatusCode.UNAVAILABLE, trailers=()):
        """A server that fails twice, and a channel to it as a client of the gateway has it."""
        handler = Failing(code, trailers)
        server = grpc.server(futures.ThreadPoolExecutor(2))
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self.addCleanup(lambda: server.stop(0).wait())
        channel = connect(f"http://127.0.0.1:{port}", service_config=CONFIG.read_text())
        self.addCleanup(channel.close)
        return handler, channel

    def refused_at_once(self, handler, send, request):
        with self.assertRaises(grpc.RpcError):
            send(request, timeout=20)
        self.assertEqual(handler.attempts, 1)

    def test_a_read_is_sent_again(self):
        handler, channel = self.gateway()
        proton_pb2_grpc.ProtonServiceStub(channel).GetService(
            service_pb2.GetServiceRequest(name="shop"), timeout=20
        )
        self.assertEqual(handler.attempts, 3)

    def test_a_read_that_is_throttled_is_sent_again_when_the_gateway_says(self):
        handler, channel = self.gateway(
            grpc.StatusCode.RESOURCE_EXHAUSTED, (("grpc-retry-pushback-ms", "10"),)
        )
        proton_pb2_grpc.ProtonServiceStub(channel).GetService(
            service_pb2.GetServiceRequest(name="shop"), timeout=20
        )
        self.assertEqual(handler.attempts, 3)

    def test_what_the_gateway_says_is_not_worth_it_is_not_sent_again(self):
        handler, channel = self.gateway(trailers=(("grpc-retry-pushback-ms", "-1"),))
        proton = proton_pb2_grpc.ProtonServiceStub(channel)
        self.refused_at_once(handler, proton.GetService, service_pb2.GetServiceRequest())

    def test_a_refusal_is_not_sent_again(self):
        handler, channel = self.gateway(grpc.StatusCode.NOT_FOUND)
        proton = proton_pb2_grpc.ProtonServiceStub(channel)
        self.refused_at_once(handler, proton.GetService, service_pb2.GetServiceRequest())

    def test_a_creation_that_is_one_by_its_name_is_sent_again(self):
        handler, channel = self.gateway()
        proton_pb2_grpc.ProtonServiceStub(channel).CreateEnvironmentTemplate(
            environment_template_pb2.CreateEnvironmentTemplateRequest(name="web"), timeout=20
        )
        self.assertEqual(handler.attempts, 3)

    def test_a_creation_that_needs_a_token_is_not_sent_again(self):
        handler, channel = self.gateway()
        self.refused_at_once(
            handler,
            proton_pb2_grpc.ProtonServiceStub(channel).CreateEnvironmentTemplateVersion,
            environment_template_pb2.CreateEnvironmentTemplateVersionRequest(),
        )

    def test_an_update_is_not_sent_again(self):
        handler, channel = self.gateway()
        self.refused_at_once(
            handler,
            proton_pb2_grpc.ProtonServiceStub(channel).UpdateEnvironment,
            environment_pb2.UpdateEnvironmentRequest(),
        )

    def test_a_wait_that_does_not_begin_is_opened_again(self):
        handler, channel = self.gateway()
        stream = waits_pb2_grpc.WaitServiceStub(channel).WaitEnvironmentDeployed(
            waits_pb2.WaitEnvironmentDeployedRequest(name="prod"), timeout=20
        )
        self.assertEqual(len(list(stream)), 1)
        self.assertEqual(handler.attempts, 3)


if __name__ == "__main__":
    unittest.main()
