"""The configurations of the overlays, at work: sidecar.py BINARY FOLDER

The central gateway is started with its own, the sidecar with its own in front of it, and a call goes
through both. Only places are changed: addresses, and where files are.
"""

import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "clients")]
from checks import Checks, contains, same  # noqa: E402
from running import call, gateway  # noqa: E402

OVERLAYS = HERE.parent.parent / "deploy/kustomize"
binary, work = sys.argv[1], pathlib.Path(sys.argv[2]) / "through"
tls = pathlib.Path(sys.argv[2])
checks = Checks()


def placed(path, folder, **places):
    """The configuration of an overlay, below `folder`, on free ports."""
    text = (OVERLAYS / path).read_text()
    text = re.sub(r'"(0\.0\.0\.0|127\.0\.0\.1):\d+"', '"127.0.0.1:0"', text)
    text = re.sub(r'([":])/(etc|var|run)/proton-gateway', rf"\1{folder}", text)
    text = re.sub(r'([":])/var/lib/proton-gateway', rf"\1{folder}", text)
    for what, place in places.items():
        text, count = re.subn(rf'^{what.replace("_", "-")} = .*$', f'{what.replace("_", "-")} = "{place}"', text, flags=re.M)
        same(count, 1)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "gateway.toml"
    file.write_text(text)
    return file


secret = "a-secret-of-the-orders"
central = work / "central"
for name in ("tls", "callers"):
    (central / name).mkdir(parents=True, exist_ok=True)
for name in ("tls.crt", "tls.key"):
    (central / "tls" / name).write_bytes((tls / name).read_bytes())
(central / "callers/orders").write_text(secret)

with gateway(binary, central, "--config", placed("overlays/central/gateway.toml", central)) as main:
    port = main["aws"].rsplit(":", 1)[1]
    upstream = f"https://localhost:{port}"
    config = "components/sidecar/gateway.toml"

    def sidecar(name, **environment):
        folder = work / name
        file = placed(config, folder, upstream_endpoint_url=upstream)
        return gateway(binary, folder, "--config", file, **environment)

    known = {"AWS_ACCESS_KEY_ID": "ORDERS", "AWS_SECRET_ACCESS_KEY": secret, "SSL_CERT_FILE": str(tls / "ca.crt")}
    with sidecar("sidecar", **known) as beside:
        with checks.that("a call through the sidecar is answered by the central gateway"):
            same(call(beside["aws"], "ListServices"), (200, {"services": []}))
        with checks.that("there it is the application's: what its role lacks is denied"):
            status, answer = call(beside["aws"], "CreateEnvironmentTemplate", {"name": "bus"})
            same(status, 400)
            contains(answer["message"], "orders is not authorized")
        with checks.that("the sidecar's socket is asked for its health, as its probes do"):
            said = subprocess.run([binary, "health", f"--address={beside['grpc']}"], capture_output=True, text=True, check=False)
            same((said.returncode, said.stderr), (0, ""))
            assert beside["grpc"].startswith("unix:"), beside
    with sidecar("stranger", **{**known, "AWS_SECRET_ACCESS_KEY": "another-secret-of-all"}) as beside:
        with checks.that("a sidecar with a wrong secret is refused"):
            status, answer = call(beside["aws"], "ListServices")
            assert status in (400, 403), (status, answer)
    with sidecar("alone", **{**known, "SSL_CERT_FILE": "/dev/null"}) as beside:
        with checks.that("a sidecar that does not know who issued the certificate connects to nobody"):
            status, _ = call(beside["aws"], "ListServices")
            assert status >= 500, status
    with checks.that("the central gateway is asked for its health without a certificate, as its probes do"):
        said = subprocess.run([binary, f"--admin-listen={main['admin']}", "health"], capture_output=True, text=True, check=False)
        same((said.returncode, said.stderr), (0, ""))

checks.finish()
