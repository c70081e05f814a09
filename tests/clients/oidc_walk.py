"""Calls with the tokens of a real issuer while its keys change: oidc_walk.py BINARY ISSUER_SCRIPT"""

import base64
import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

from checks import Checks, contains, eventually, same

binary, script = sys.argv[1], sys.argv[2]
checks = Checks()
CALLERS, ROTATIONS = 8, 5


@contextlib.contextmanager
def running(command, **more):
    process = subprocess.Popen(command, **more)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def post(address, path, body="", headers=None):
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request("POST", path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def token(issuer):
    basic = base64.b64encode(b"robot:not-secret-in-a-test").decode()
    headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"}
    status, text = post(issuer, "/token", "grant_type=client_credentials", headers)
    same((status, text if status != 200 else ""), (200, ""))
    return json.loads(text)["access_token"]


def call(aws, credential):
    headers = {"X-Amz-Target": "AwsProton20200720.ListServices", "Content-Type": "application/x-amz-json-1.0"}
    if credential:
        headers["Authorization"] = f"Bearer {credential}"
    return post(aws, "/", "{}", headers)


def main(folder):
    command = ["node", script]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with running(command, **quiet) as provider:
        url = provider.stdout.readline().strip()
        issuer = url.removeprefix("http://")
        config, ready = os.path.join(folder, "gateway.toml"), os.path.join(folder, "ready.json")
        with open(config, "w") as file:
            file.write(
                f'listen = "127.0.0.1:0"\naws-listen = "127.0.0.1:0"\nadmin-listen = "127.0.0.1:0"\n'
                f'state-dir = "{folder}/state"\nready-file = "{ready}"\n'
                f'[authentication]\nmethods = ["jwt"]\n[[authentication.jwt.issuers]]\n'
                f'issuer = "{url}"\naudiences = ["proton-gateway"]\njwks-url = "{url}/jwks"\nalgorithms = ["ES256"]\nroles = ["viewer"]\n'
            )
        with open(os.path.join(folder, "log"), "w") as log, running(
            [binary, "--config", config], stdout=log, stderr=log
        ):
            eventually(lambda: os.path.exists(ready))
            with open(ready) as file:
                aws = json.load(file)["aws"]
            walk(issuer, aws)


def walk(issuer, aws):
    with checks.that("a token of the issuer is accepted, and none or a broken one is not"):
        good = token(issuer)
        same(call(aws, good)[0], 200)
        status, text = call(aws, None)
        same(status, 403)
        contains(text, "MissingAuthenticationTokenException")
        status, text = call(aws, good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB"))
        same(status, 403)
        contains(text, "signature is wrong")

    with checks.that("no call fails while the issuer changes its keys under load"):
        stop, failures, counts = threading.Event(), [], [0] * CALLERS

        def load(number):
            try:
                while not stop.is_set():
                    status, text = call(aws, token(issuer))
                    counts[number] += 1
                    if status != 200:
                        failures.append(text)
            except Exception as problem:  # said by the check
                failures.append(repr(problem))

        threads = [threading.Thread(target=load, args=[number]) for number in range(CALLERS)]
        for thread in threads:
            thread.start()
        for _ in range(ROTATIONS):
            time.sleep(2)
            same(post(issuer, "/rotate")[0], 200)
        time.sleep(2)
        stop.set()
        for thread in threads:
            thread.join()
        same(failures[:3], [])
        assert min(counts) > ROTATIONS, f"too few calls: {counts}"
        print(f"           {sum(counts)} calls, {ROTATIONS} new keys")


with tempfile.TemporaryDirectory() as folder:
    main(folder)
checks.finish()
