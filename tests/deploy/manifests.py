"""What is rendered for Kubernetes, from the chart and the overlays: manifests.py BINARY FOLDER

Every manifest fits the cluster's schema, every pod is hardened, and every configuration is one
that the gateway takes, with each file that it names mounted where it looks.
"""

import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import helm_python
import kubernetes_validate
import yaml
from helm_python.chart import Chart, lint

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "clients"))
from checks import Checks, Skipped, contains, same  # noqa: E402

DEPLOY = HERE.parent.parent / "deploy"
CHART = DEPLOY / "helm/proton-gateway"
VERSION = "1.34"
# Of the operator of Prometheus; their schemas are not the cluster's.
FOREIGN = {"ServiceMonitor", "PrometheusRule"}

binary, work = sys.argv[1], pathlib.Path(sys.argv[2])
checks = Checks()


def documents(text):
    return [it for it in yaml.safe_load_all(text) if it]


def render(values, name="gw"):
    with Chart.load(CHART) as chart:
        files = chart.render(values=values, name=name, namespace="proton")
    return [it for path, text in files.items() if not path.endswith(".txt") for it in documents(text)]


def kustomize(folder):
    if not shutil.which("kubectl"):
        raise Skipped("kubectl is not installed")
    said = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    same((said.returncode, said.stderr), (0, ""))
    return documents(said.stdout)


def of(manifests, *kinds):
    return [it for it in manifests if it["kind"] in kinds]


def pod_specs(manifests):
    specs = [it["spec"] for it in of(manifests, "Pod")]
    specs += [it["spec"]["template"]["spec"] for it in of(manifests, "Deployment", "StatefulSet")]
    assert specs, "there is no pod"
    return specs


def containers(manifests):
    return [(spec, it) for spec in pod_specs(manifests) for it in spec.get("initContainers", []) + spec["containers"]]


def fits_the_schema(manifests):
    names = [(it["kind"], it["metadata"]["name"]) for it in manifests]
    same(len(names), len(set(names)))
    for manifest in manifests:
        if manifest["kind"] not in FOREIGN:
            kubernetes_validate.validate(manifest, VERSION, strict=True)


def is_hardened(manifests):
    for spec, container in containers(manifests):
        pod, own = spec["securityContext"], container["securityContext"]
        both = {**pod, **own}
        assert both["runAsNonRoot"] and both["runAsUser"] > 0, container["name"]
        same(both["seccompProfile"], {"type": "RuntimeDefault"})
        same(own["allowPrivilegeEscalation"], False)
        same(own["readOnlyRootFilesystem"], True)
        same(own["capabilities"], {"drop": ["ALL"]})
        assert "privileged" not in own
        assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]
        same(spec["automountServiceAccountToken"], False)


def holds_no_secret(manifests):
    same(of(manifests, "Secret"), [])


def selects_its_pods(manifests):
    pods = [it["spec"]["template"]["metadata"]["labels"] for it in of(manifests, "Deployment", "StatefulSet")]
    selectors = [it["spec"]["selector"] for it in of(manifests, "Service")]
    selectors += [it["spec"]["selector"]["matchLabels"] for it in of(manifests, "Deployment", "StatefulSet", "PodDisruptionBudget")]
    selectors += [it["spec"]["podSelector"]["matchLabels"] for it in of(manifests, "NetworkPolicy")]
    for selector in selectors:
        assert any(selector.items() <= labels.items() for labels in pods), selector


def ports_lead_somewhere(manifests):
    named = {port["name"] for _, it in containers(manifests) for port in it.get("ports", [])}
    wanted = {port["targetPort"] for it in of(manifests, "Service") for port in it["spec"]["ports"]}
    for policy in of(manifests, "NetworkPolicy"):
        wanted |= {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
    assert wanted <= named, (wanted, named)


def gateway_of(manifests):
    """The container of the gateway, with its pod, and the text of its configuration."""
    for spec, container in containers(manifests):
        if "--config" in container.get("args", []):
            name = next(it for it in spec["volumes"] if it["name"].endswith("config"))["configMap"]["name"]
            config = next(it for it in of(manifests, "ConfigMap") if it["metadata"]["name"] == name)
            return spec, container, config["data"]["gateway.toml"]
    raise AssertionError("no container has a configuration")


def files_of(spec, container, config):
    """Every path in the configuration, with the volume that is mounted there."""
    mounts = {it["mountPath"]: it for it in container["volumeMounts"]}
    volumes = {it["name"]: it for it in spec.get("volumes", [])}
    found = {}
    for path in re.findall(r'"(?:unix:)?(/(?:etc|var|run)/[^"]+)"', config):
        if "/" not in path.lstrip("/"):
            continue
        # On a volume, or a folder that volumes are mounted in.
        mount = next((it for it in mounts if f"{path}/".startswith(f"{it}/") or it.startswith(f"{path}/")), None)
        # A claim for claims of a set is no volume of the pod itself.
        found[path] = mount and (mounts[mount], volumes.get(mounts[mount]["name"], {}))
    # No paths: where a claim of a token stands.
    return {path: it for path, it in found.items() if not path.startswith("/kubernetes.io")}


def put_files(manifests, root, key):
    """Makes each file of the configuration below `root`, and writes the configuration that names them there."""
    spec, container, config = gateway_of(manifests)
    for path, mounted in files_of(spec, container, config).items():
        assert mounted, f"{path} is on no volume"
        mount, volume = mounted
        target = root / path.lstrip("/")
        if "configMap" in volume and path == mount["mountPath"]:
            name = volume["configMap"]["name"]
            target.mkdir(parents=True, exist_ok=True)
            data = next(it for it in of(manifests, "ConfigMap") if it["metadata"]["name"] == name)["data"]
            for file, text in data.items():
                (target / file).write_text(text)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if not mount.get("readOnly"):
            continue
        if path.endswith("crt"):
            shutil.copy(key / "tls.crt", target)
        elif path.endswith("tls.key"):
            shutil.copy(key / "tls.key", target)
        else:
            # Its own for each: the gateway refuses two keys with one secret.
            target.write_text(hashlib.sha256(path.encode()).hexdigest())
    file = root / "gateway.toml"
    file.write_text(re.sub(r'"(unix:)?(/(?:etc|var|run)/)', lambda it: f'"{it[1] or ""}{root}{it[2]}', config))
    return file


def is_taken(manifests, name):
    root = work / name
    file = put_files(manifests, root, work)
    said = subprocess.run([binary, "check-config", "--config", file], capture_output=True, text=True, check=False)
    same((said.returncode, said.stderr), (0, ""))
    return tomllib.loads(said.stdout)


def probes_are_commands(manifests):
    for _, container in containers(manifests):
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            command = container.get(probe, {}).get("exec", {}).get("command")
            if command:
                same(command[0], "/usr/local/bin/proton-gateway")
                said = subprocess.run([binary, *command[1:], "--help"], capture_output=True, text=True, check=False)
                same(said.returncode, 0)
                contains(said.stdout, "Usage: proton-gateway")


def whole(name, manifests):
    with checks.that(f"{name}: fits the schemas of Kubernetes {VERSION}"):
        fits_the_schema(manifests)
    with checks.that(f"{name}: pods are hardened, and no secret is in it"):
        is_hardened(manifests)
        holds_no_secret(manifests)
    with checks.that(f"{name}: selectors and ports fit each other"):
        selects_its_pods(manifests)
        ports_lead_somewhere(manifests)
    with checks.that(f"{name}: the gateway takes its configuration, and finds each file on a volume"):
        is_taken(manifests, name.replace(" ", "-"))
    with checks.that(f"{name}: what the probes run is a command of the program"):
        probes_are_commands(manifests)


with checks.that("the chart passes helm's linter"):
    report = lint(CHART, strict=True)
    # 1: a hint, such as that an icon is missing.
    same([it for it in report["messages"] if it["severity"] > 1], [])

sets = {"defaults": {}}
for file in sorted((CHART / "ci").glob("*-values.yaml")):
    sets[file.name.removesuffix("-values.yaml")] = yaml.safe_load(file.read_text())
rendered = {}
for name, values in sets.items():
    with checks.that(f"chart, {name}: it is rendered"):
        rendered[name] = render(values)
    if name in rendered:
        whole(f"chart, {name}", rendered[name])

with checks.that("chart: the engine is a set of one, with a claim that stays"):
    [workload] = of(rendered["defaults"], "StatefulSet")
    same(workload["spec"]["replicas"], 1)
    same(workload["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"], "Retain")
    same(of(rendered["defaults"], "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget"), [])
with checks.that("chart: with nothing said, doors have TLS, callers are known, and the admin page is on loopback"):
    config = tomllib.loads(gateway_of(rendered["defaults"])[2])
    same(config["tls"]["minimum-version"], "1.3")
    same(config["authentication"]["methods"], ["jwt"])
    same(config["admin-listen"], "127.0.0.1:9464")
    assert "insecure" not in config
with checks.that("chart: where the admin page is open, doors keep TLS, and callers are known"):
    config = tomllib.loads(gateway_of(rendered["everything"])[2])
    same(config["admin-listen"], "0.0.0.0:9464")
    same(config["tls"]["client-certificates"], "required")
    same(config["authentication"]["methods"], ["jwt", "access-key"])
with checks.that("chart: many pods that forward are scaled, spread, and not all evicted at once"):
    [workload] = of(rendered["central"], "Deployment")
    assert "replicas" not in workload["spec"]
    same(len(of(rendered["central"], "HorizontalPodAutoscaler", "PodDisruptionBudget")), 2)
    same(len(workload["spec"]["template"]["spec"]["topologySpreadConstraints"]), 2)
    account = of(rendered["central"], "ServiceAccount")[0]["metadata"]["annotations"]
    same(account["eks.amazonaws.com/role-arn"], "arn:aws:iam::123456789012:role/proton-gateway")
with checks.that("chart: plain text is asked by gRPC's own probe, TLS by the program or the admin page"):
    for name, kind in {"insecure": "grpc", "defaults": "exec", "everything": "httpGet"}.items():
        _, container, _ = gateway_of(rendered[name])
        assert kind in container["readinessProbe"], name
with checks.that("chart: another configuration is another pod"):
    sums = [of(render(values), "StatefulSet")[0]["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
            for values in ({}, {}, {"config": {"log": "debug"}})]
    assert sums[0] == sums[1] != sums[2], sums
with checks.that("chart: a pod has longer to stop than its notice and its drain"):
    for manifests in rendered.values():
        spec, _, config = gateway_of(manifests)
        shutdown = tomllib.loads(config)["shutdown"]
        assert spec["terminationGracePeriodSeconds"] > sum(int(shutdown[it].removesuffix("s")) for it in ("notice", "drain")) + 2
with checks.that("chart: its rules and its dashboard are those of deploy/"):
    [rule] = of(rendered["everything"], "PrometheusRule")
    same(rule["spec"], yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text()))
    [dashboard] = [it for it in of(rendered["everything"], "ConfigMap") if it["metadata"]["name"].endswith("dashboard")]
    same(json.loads(dashboard["data"]["proton-gateway.json"]), json.loads((DEPLOY / "grafana/dashboard.json").read_text()))

REFUSED = [
    ({"tls": {"secretName": ""}}, "tls.secretName"),
    ({"authentication": {"kubernetes": {"enabled": False}}}, "authentication: nobody can prove"),
    ({"probes": {"kind": "grpc"}}, "the kubelet speaks no TLS"),
    ({"probes": {"kind": "http"}}, "metrics.enabled"),
    ({"autoscaling": {"enabled": True}}, "one writer"),
    ({"metrics": {"serviceMonitor": {"enabled": True}}}, "nothing to scrape"),
    ({"idempotency": {"secretName": "keys"}}, "mode forward"),
    ({"terminationGracePeriodSeconds": 20}, "want at least 28"),
    # Of the schema.
    ({"mode": "both"}, "mode"),
    ({"replica": 3}, "replica"),
    ({"config": {"listen": "0.0.0.0:1"}}, "listen"),
    ({"persistence": {"accessModes": ["ReadWriteMany"]}}, "accessModes"),
    ({"extraEnv": [{"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}]}, "extraEnv"),
]
for values, why in REFUSED:
    with checks.that(f"chart: {json.dumps(values)} is refused"):
        try:
            render(values)
        except helm_python.HelmError as problem:
            contains(str(problem), why)
        else:
            raise AssertionError("it was rendered")

for folder in ("base", "overlays/central", "overlays/sidecar"):
    name = f"kustomize, {folder}"
    manifests = None
    with checks.that(f"{name}: it is rendered"):
        manifests = kustomize(DEPLOY / "kustomize" / folder)
    if manifests:
        whole(name.replace("/", " "), manifests)

checks.finish()
