"""The files of deploy/ that are no manifests: files.py BINARY FOLDER

Compose, Prometheus, Grafana, IAM, systemd, and the runbook that alerts lead to.
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

import yaml

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "clients"))
from checks import Checks, contains, same  # noqa: E402

ROOT = HERE.parent.parent
DEPLOY = ROOT / "deploy"
binary, work = sys.argv[1], pathlib.Path(sys.argv[2])
checks = Checks()


def read(path):
    return yaml.safe_load((DEPLOY / path).read_text())


compose = read("compose/compose.yaml")
services = compose["services"]

with checks.that("compose: ports are published on loopback alone"):
    published = [port for it in services.values() for port in it.get("ports", [])]
    assert published
    for port in published:
        assert port.startswith(("127.0.0.1:", "${PROTON_GATEWAY_BIND:-127.0.0.1}:")), port
with checks.that("compose: every service is hardened, bounded, and of a version that is said"):
    for name, it in services.items():
        assert it["read_only"] and it["cap_drop"] == ["ALL"], name
        same(it["security_opt"], ["no-new-privileges:true"])
        assert it["mem_limit"] and it["pids_limit"] and it["logging"], name
        assert not re.search(r":latest$|/[^:]+$", it["image"]), it["image"]
        assert "privileged" not in it
with checks.that("compose: networks, volumes, secrets and dependencies exist, and files that are mounted too"):
    for name, it in services.items():
        assert set(it["networks"]) <= set(compose["networks"]), name
        assert set(it.get("depends_on", {})) <= set(services), name
        assert set(it.get("secrets", [])) <= set(compose["secrets"]), name
        for volume in it["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / "compose" / source).exists(), source
                assert volume.endswith(":ro"), volume
            else:
                assert source in compose["volumes"], source
        for needed, how in it.get("depends_on", {}).items():
            healthy = "healthcheck" in services[needed] or "build" in services[needed]
            assert how["condition"] != "service_healthy" or healthy, needed
with checks.that("compose: the gateway takes its configuration"):
    text = (DEPLOY / "compose/gateway.toml").read_text().replace("/var/lib/", f"{work}/compose/")
    (work / "compose").mkdir(exist_ok=True)
    (work / "compose/gateway.toml").write_text(text)
    said = subprocess.run([binary, "check-config", "--config", work / "compose/gateway.toml"],
                          capture_output=True, text=True, check=False)
    same((said.returncode, said.stderr), (0, ""))
with checks.that("compose: Prometheus scrapes the gateway where it listens, under the name of the rules"):
    config = tomllib.loads((DEPLOY / "compose/gateway.toml").read_text())
    jobs = {it["job_name"]: it["static_configs"][0]["targets"] for it in read("compose/prometheus.yml")["scrape_configs"]}
    same(jobs["proton-gateway"], ["gateway:" + config["admin-listen"].rsplit(":", 1)[1]])
with checks.that("compose: the collector's pipelines name what there is, and telemetry is sent to it"):
    collector = read("compose/collector.yaml")
    for pipeline in collector["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(collector[kind]), pipeline
    endpoint = services["gateway"]["environment"]["PROTON_GATEWAY_OTLP_ENDPOINT"]
    port = collector["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].rsplit(":", 1)[1]
    same(endpoint, f"http://collector:{port}")

dashboard = json.loads((DEPLOY / "grafana/dashboard.json").read_text())
with checks.that("Grafana: panels have ids of their own, lie beside each other, and ask the chosen data source"):
    panels = dashboard["panels"]
    ids = [it["id"] for it in panels]
    same(len(ids), len(set(ids)))
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
        for target in panel.get("targets", []):
            same(target["datasource"]["uid"], "${datasource}")
            contains(target["expr"], "$instance")
with checks.that("Grafana: the provisioned data source is the one that Prometheus is"):
    [source] = read("compose/grafana/datasources/prometheus.yaml")["datasources"]
    same((source["type"], source["url"]), ("prometheus", "http://prometheus:9090"))

runbook = (ROOT / "docs/operations-runbook.md").read_text()
alerts = [rule for group in read("prometheus/rules.yaml")["groups"] for rule in group["rules"] if "alert" in rule]
with checks.that("alerts: each has a severity, a time, a summary, and a section of the runbook; no section is left over"):
    sections = re.findall(r"^## (\S+)$", runbook, re.M)
    same(sorted(sections), sorted(it["alert"] for it in alerts))
    for alert in alerts:
        assert alert["labels"]["severity"] in ("critical", "warning"), alert["alert"]
        assert "for" in alert and alert["annotations"]["summary"] and alert["annotations"]["description"]
        same(alert["annotations"]["runbook_url"], f"docs/operations-runbook.md#{alert['alert'].lower()}")
with checks.that("runbook: each section says what it means, what to look at and what to do"):
    for section in runbook.split("\n## ")[1:]:
        for part in ("**Means**: ", "**Look at**: ", "**Do**:"):
            contains(section, part)
with checks.that("runbook: the panels that it names are on the dashboard, and its links lead somewhere"):
    titles = {it["title"] for it in dashboard["panels"]}
    for title in re.findall(r"(?<!\*)\*([A-Z][^*\n]+)\*(?!\*)", runbook):
        assert any(it.startswith(title) for it in titles), title
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", runbook):
        assert link == "telemetry.md" or (ROOT / "docs" / link).exists(), link
    for anchor in re.findall(r"\]\(#([^)]+)\)", runbook):
        assert anchor in {it.lower() for it in re.findall(r"^## (\S+)$", runbook, re.M)}, anchor
with checks.that("alerts: each is seen to fire in rules_test.yaml"):
    tests = (DEPLOY / "prometheus/rules_test.yaml").read_text()
    for alert in alerts:
        contains(tests, alert["alert"])

with checks.that("IAM: policies are of the language's version, and allow nothing by a * in an action"):
    policies = sorted((DEPLOY / "iam").glob("*.json"))
    assert len(policies) >= 5
    for path in policies:
        policy = json.loads(path.read_text())
        same(policy["Version"], "2012-10-17")
        for statement in policy["Statement"]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            assert not any("*" in it for it in actions), path.name

with checks.that("systemd: the gateway takes the example configuration"):
    root = work / "systemd"
    (root / "tls").mkdir(parents=True, exist_ok=True)
    for name in ("tls.crt", "tls.key"):
        (root / "tls" / name).write_bytes((work / name).read_bytes())
    text = (DEPLOY / "systemd/gateway.toml").read_text()
    for place in ("/etc/proton-gateway", "/var/lib/proton-gateway", "/var/log/proton-gateway"):
        text = text.replace(place, str(root))
    (root / "gateway.toml").write_text(text)
    said = subprocess.run([binary, "check-config", "--config", root / "gateway.toml"], capture_output=True, text=True, check=False)
    same((said.returncode, said.stderr), (0, ""))

checks.finish()
