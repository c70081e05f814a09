"""Sends to the AWS door what no SDK would: bad_input.py AWS_ADDRESS ADMIN_ADDRESS

Each must get a clean answer, and the server must go on answering.
"""

import http.client
import json
import socket
import sys

from checks import Checks, contains, same

aws, admin = sys.argv[1], sys.argv[2]
checks = Checks()
TARGET = "AwsProton20200720."
JSON = "application/x-amz-json-1.0"


def post(body, target="ListServices", content_type=JSON, method="POST", path="/", headers=None):
    """(HTTP status, exception, message) of an answer, which must be AWS JSON."""
    connection = http.client.HTTPConnection(aws, timeout=20)
    sent = dict(headers or {})
    if target is not None:
        sent["X-Amz-Target"] = target if "." in target else TARGET + target
    if content_type is not None:
        sent["Content-Type"] = content_type
    try:
        connection.request(method, path, body=body, headers=sent)
        answer = connection.getresponse()
        text = answer.read()
        same(answer.headers["content-type"], JSON)
        assert answer.headers["x-amzn-requestid"], "no request id"
        document = json.loads(text)
        exception = document.get("__type", "").rsplit("#", 1)[-1]
        if exception:
            same(answer.headers["x-amzn-errortype"], exception)
        return answer.status, exception, document.get("message", "")
    finally:
        connection.close()


def exchange(data, close_early=False):
    """What comes back for bytes on a new connection, until it is closed or falls silent."""
    host, port = aws.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        received = b""
        try:
            connection.sendall(data)
            if close_early:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            # The gateway may have answered and closed before it has read all of it.
            pass
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except OSError:
            pass
        return received


with checks.that("a good request is answered, so the others are refused for what is wrong in them"):
    same(post("{}")[0], 200)
with checks.that("an empty body means no parameters"):
    same(post("")[0], 200)
with checks.that("an operation that there is not"):
    same(post("{}", target="NoSuchOperation")[:2], (404, "UnknownOperationException"))
with checks.that("an operation of another service"):
    same(post("{}", target="DynamoDB_20120810.ListTables")[:2], (404, "UnknownOperationException"))
with checks.that("no operation at all"):
    same(post("{}", target=None)[:2], (404, "UnknownOperationException"))
with checks.that("GET instead of POST"):
    same(post(None, method="GET")[:2], (404, "UnknownOperationException"))
with checks.that("another path"):
    same(post("{}", path="/services")[:2], (404, "UnknownOperationException"))
with checks.that("another content type"):
    same(post("{}", content_type="text/plain")[:2], (400, "SerializationException"))
with checks.that("no content type"):
    same(post("{}", content_type=None)[:2], (400, "SerializationException"))
with checks.that("JSON that ends in the middle"):
    status, exception, message = post('{"name": "or')
    same((status, exception), (400, "SerializationException"))
    contains(message, "JSON")
with checks.that("a list where an object belongs"):
    same(post("[]")[:2], (400, "SerializationException"))
with checks.that("a number where a string belongs"):
    same(post('{"name": 7}', target="GetService")[:2], (400, "SerializationException"))
with checks.that("bytes that are no UTF-8"):
    same(post(b'{"name": "\xff\xfe"}', target="GetService")[:2], (400, "SerializationException"))
with checks.that("lists nested a hundred thousand times"):
    same(post("[" * 100_000)[:2], (400, "SerializationException"))
with checks.that("a member that the model has not is ignored, as newer SDKs may send one"):
    same(post('{"newer": true}')[0], 200)
with checks.that("a required member that is missing is named"):
    status, exception, message = post("{}", target="GetService")
    same((status, exception), (400, "ValidationException"))
    contains(message, "name")
with checks.that("a body of more than is read"):
    status, exception, message = post(json.dumps({"name": "x" * (2 << 20)}), target="GetService")
    same((status, exception), (400, "SerializationException"))
    contains(message, "too large")
with checks.that("a body that says it is huge and never comes"):
    head = f"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: {TARGET}ListServices\r\nContent-Type: {JSON}\r\nContent-Length: 999999999999\r\n\r\n"
    answer = exchange(head.encode() + b"{", close_early=True)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:200]
with checks.that("a body that ends early"):
    head = f"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: {TARGET}ListServices\r\nContent-Type: {JSON}\r\nContent-Length: 100\r\n\r\n"
    answer = exchange(head.encode() + b"{", close_early=True)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:200]
with checks.that("bytes that are no HTTP"):
    answer = exchange(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20, close_early=True)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400"), answer[:200]
with checks.that("headers of a megabyte"):
    answer = exchange(b"POST / HTTP/1.1\r\nX-Big: " + b"x" * (1 << 20), close_early=True)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:200]
with checks.that("after all that the server still answers"):
    same(post("{}")[0], 200)
with checks.that("and says that it is alive and ready, on pages with metrics beside"):
    for path, wanted in (("/livez", "ok"), ("/readyz", "ok"), ("/metrics", "proton_gateway_calls")):
        connection = http.client.HTTPConnection(admin, timeout=20)
        connection.request("GET", path)
        answer = connection.getresponse()
        same(answer.status, 200)
        contains(answer.read().decode(), wanted)
        connection.close()

checks.finish()
