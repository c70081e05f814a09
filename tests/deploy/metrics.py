"""Every metric that rules and dashboard ask for is on a gateway's page: metrics.py BINARY FOLDER

Two gateways are made to show what they can: one on the engine, whose disk for the audit is full and
whose collector is away, and one that forwards to nobody.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import yaml

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "clients")]
from checks import Checks  # noqa: E402
from running import call, gateway, page  # noqa: E402

DEPLOY = HERE.parent.parent / "deploy"
binary, work = sys.argv[1], pathlib.Path(sys.argv[2]) / "metrics"
# Gauges of the engine are looked at every 15 s.
PATIENCE = 40
KEYWORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right"}
checks = Checks()


def names(expression):
    """The metrics in an expression: what is left without texts, labels, functions and numbers."""
    text = re.sub(r'"(\\.|[^"])*"', "", expression)
    text = re.sub(r"\{[^}]*\}", " ", text)
    text = re.sub(r"\[[^\]]*\]", " ", text)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", text)
    found = re.findall(r"(?<![\w:.])([a-zA-Z_][\w:]*)(?!\s*\(|[\w:])", text)
    return {it for it in found if it not in KEYWORDS}


def labels(expression):
    """The labels that an expression asks its metrics for, but those that Prometheus itself gives."""
    text = re.sub(r'"(\\.|[^"])*"', "", expression)
    found = {it for part in re.findall(r"\{([^}]*)\}", text) for it in re.findall(r"(\w+)\s*[=!]", part)}
    found |= {it for part in re.findall(r"\bby\s*\(([^)]*)\)", text) for it in re.findall(r"\w+", part)}
    return found - {"job", "instance"}


rules = [rule for group in yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text())["groups"] for rule in group["rules"]]
dashboard = json.loads((DEPLOY / "grafana/dashboard.json").read_text())
asked = {rule.get("alert", rule.get("record")): names(rule["expr"]) for rule in rules}
expressions = [rule["expr"] for rule in rules] + [target["expr"] for it in dashboard["panels"] for target in it.get("targets", [])]
asked |= {it["title"]: set().union(*(names(target["expr"]) for target in it["targets"])) for it in dashboard["panels"] if it.get("targets")}
recorded = {rule["record"] for rule in rules if "record" in rule}
# Prometheus's own.
wanted = set().union(*asked.values()) - recorded - {"up"}

engine = work / "engine"
engine.mkdir(parents=True, exist_ok=True)
(engine / "audit.log").symlink_to("/dev/full")
(engine / "gateway.toml").write_text(f"""
listen = "127.0.0.1:0"
aws-listen = "127.0.0.1:0"
admin-listen = "127.0.0.1:0"
state-dir = "{engine}/state"
simulated-step = "1s"
[audit]
file = "{engine}/audit.log"
[cache]
enabled = true
[limits]
wait = {{ rate = "1/h", burst = 2 }}
[order]
enabled = true
""")
forward = work / "forward"
forward.mkdir(parents=True, exist_ok=True)
(forward / "gateway.toml").write_text("""
listen = "127.0.0.1:0"
aws-listen = "127.0.0.1:0"
admin-listen = "127.0.0.1:0"
upstream-endpoint-url = "http://127.0.0.1:1"
region = "us-east-1"
[retry]
base-pause = "1ms"
[retry.circuit]
min-attempts = 3
""")


def provoke(ready):
    aws = ready["aws"]
    sampled = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    for request in ("CreateEnvironmentTemplate", {"name": "bus"}), ("CreateEnvironmentTemplateVersion", {
            "templateName": "bus", "source": {"s3": {"bucket": "proton-examples", "key": "environment-cloudformation.tar.gz"}}}):
        call(aws, *request, idempotency_key="once", **sampled)
    for _ in range(100):
        status, _ = call(aws, "UpdateEnvironmentTemplateVersion", {"templateName": "bus", "majorVersion": "1", "minorVersion": "0", "status": "PUBLISHED"})
        if status == 200:
            break
        time.sleep(0.1)
    status, answer = call(aws, "CreateEnvironment", {"name": "events", "templateName": "bus", "templateMajorVersion": "1",
                                                     "spec": "{proton: EnvironmentSpec, spec: {owner: platform}}"}, idempotency_key="twice")
    assert status == 200, answer
    # The deployment is under way: this waits for it.
    status, answer = call(aws, "UpdateEnvironment", {"name": "events", "deploymentType": "CURRENT_VERSION"})
    assert status == 200, answer
    for _ in range(4):
        subprocess.run([binary, "wait", "environment-deployed", "events", "--timeout", "2s", "--address", f"http://{ready['grpc']}"],
                       capture_output=True, check=False)
    # What has settled is kept.
    for _ in range(2):
        call(aws, "GetEnvironment", {"name": "events"}, **sampled)
        call(aws, "GetEnvironmentTemplate", {"name": "bus"}, **sampled)


with gateway(binary, engine, "--config", engine / "gateway.toml", PROTON_GATEWAY_OTLP_ENDPOINT="http://127.0.0.1:1") as one, \
     gateway(binary, forward, "--config", forward / "gateway.toml", AWS_ACCESS_KEY_ID="any", AWS_SECRET_ACCESS_KEY="any") as two:
    provoke(one)
    os.kill(one["pid"], signal.SIGHUP)
    for _ in range(6):
        call(two["aws"], "ListServices")
    deadline = time.monotonic() + PATIENCE
    while True:
        pages = page(one["admin"]) + page(two["admin"])
        shown = set(re.findall(r"^([a-zA-Z_:][\w:]*)[{ ]", pages, re.M))
        missing = wanted - shown
        if not missing or time.monotonic() > deadline:
            break
        time.sleep(1)

for name in sorted(wanted):
    with checks.that(name):
        where = [title for title, it in asked.items() if name in it]
        assert name in shown, f"on no page; asked for by {', '.join(where)}"
seen = set()
for expression in expressions:
    of = names(expression) - recorded - {"up"}
    # Of more than one metric it cannot be said whose label it is.
    if len(of) == 1 and labels(expression) and of <= shown:
        [name] = of
        if (name, *sorted(labels(expression))) in seen:
            continue
        seen.add((name, *sorted(labels(expression))))
        with checks.that(f"{name} by {', '.join(sorted(labels(expression)))}"):
            there = {it for part in re.findall(rf"^{name}\{{(.*)\}} ", pages, re.M) for it in re.findall(r'(\w+)="', part)}
            missing = labels(expression) - there
            assert not missing, f"has no {', '.join(sorted(missing))}, but {', '.join(sorted(there))}"
checks.finish()
