"""Starts gateways for the checks, and stops them."""

import contextlib
import json
import os
import subprocess
import time
import urllib.error
import urllib.request


@contextlib.contextmanager
def gateway(binary, folder, *arguments, **environment):
    """A gateway that serves: where it listens, as its ready file says, and its process."""
    folder.mkdir(parents=True, exist_ok=True)
    ready = folder / "ready.json"
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("PROTON_GATEWAY_", "AWS_"))}
    with open(folder / "log", "w", encoding="utf-8") as log:
        process = subprocess.Popen([binary, *arguments, "--ready-file", ready], cwd=folder,
                                   env={**kept, **environment}, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)
        yield {**json.loads(ready.read_text()), "pid": process.pid}
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def call(aws, operation, request=None, **headers):
    """The status and the answer of the AWS door."""
    asked = urllib.request.Request(f"http://{aws}/", json.dumps(request or {}).encode(), {
        "content-type": "application/x-amz-json-1.0",
        "x-amz-target": f"AwsProton20200720.{operation}",
        **{name.replace("_", "-"): text for name, text in headers.items()},
    })
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def page(admin):
    with urllib.request.urlopen(f"http://{admin}/metrics", timeout=10) as answer:
        return answer.read().decode()
