"""The manifest and the batch script of examples/scale_out: checked, since they are not run here."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

kubernetes_validate = pytest.importorskip("kubernetes_validate")
FOLDER = Path(__file__).resolve().parent.parent / "examples" / "scale_out"
OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()))
VERSIONS = ("1.28", "1.37")
SCRIPT = FOLDER / "slurm.sbatch"
OPTIONS = {
    "job-name": r"[\w-]+",
    "nodes": r"\d+",
    "ntasks-per-node": r"\d+",
    "cpus-per-task": r"\d+",
    "gpus-per-node": r"\d+",
    "mem": r"\d+[KMGT]",
    "time": r"\d\d:\d\d:\d\d",
    "output": r"[\w.-]*%j[\w.-]*",
    "signal": r"B:[A-Z]+@\d+",
}
"""What sbatch(1) lets its values look like."""


def named(kind: str, name: str) -> dict[str, Any]:
    """One object of the manifest."""
    (found,) = [o for o in OBJECTS if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found


def container(workload: dict[str, Any]) -> dict[str, Any]:
    """The one container of a workload's pods."""
    (found,) = workload["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("place", range(len(OBJECTS)))
def test_every_object_is_what_kubernetes_expects(place: int, version: str) -> None:
    """By Kubernetes' own schemas; a key that they do not have is an error, too."""
    kubernetes_validate.validate(OBJECTS[place], version, strict=True)


def test_the_schemas_would_find_a_mistake() -> None:
    """A misspelt probe, or a number where a text belongs."""
    broken = copy.deepcopy(named("Deployment", "ttscale-router"))
    probe = container(broken)["readinessProbe"]
    probe["httpGet"]["paths"] = probe["httpGet"].pop("path")

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_the_router_knows_every_replica() -> None:
    """By the names that a StatefulSet gives its pods within its headless service."""
    replicas = named("StatefulSet", "ttscale-replica")
    service = named("Service", replicas["spec"]["serviceName"])
    port = service["spec"]["ports"][0]["port"]
    args = container(named("Deployment", "ttscale-router"))["args"]
    name, count = replicas["metadata"]["name"], replicas["spec"]["replicas"]

    assert service["spec"]["clusterIP"] == "None"
    assert [arg for arg in args if arg.startswith("http://")] == [
        f"http://{name}-{place}.{service['metadata']['name']}:{port}" for place in range(count)
    ]
    assert named("Deployment", "ttscale-router")["spec"]["replicas"] == 1  # its table is its own


def test_services_select_the_pods_that_they_are_for() -> None:
    """Labels and ports lead to a container."""
    for service, kind in (("ttscale-replica", "StatefulSet"), ("ttscale-router", "Deployment")):
        spec, workload = named("Service", service)["spec"], named(kind, service)
        labels = workload["spec"]["template"]["metadata"]["labels"]
        ports = {port["name"] for port in container(workload)["ports"]}

        assert spec["selector"].items() <= labels.items()
        assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert {port["targetPort"] for port in spec["ports"]} <= ports


def test_keys_are_secrets_and_probes_are_there() -> None:
    """No key stands in the manifest; what is dead is seen, and what loads is waited for."""
    server = container(named("StatefulSet", "ttscale-replica"))
    router = container(named("Deployment", "ttscale-router"))
    keys = [e for e in server["env"] if e["name"].endswith(("_KEY", "TOKEN"))]

    assert len(keys) == 2
    assert all("secretKeyRef" in e["valueFrom"] and "value" not in e for e in keys)
    for one in (server, router):
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= one.keys()
    assert router["readinessProbe"]["httpGet"]["path"] == "/readiness"  # /health fails with any


def test_the_router_takes_the_arguments() -> None:
    """Those of the manifest, by the router's own parser."""
    arguments = pytest.importorskip("vllm_router.launch_router")
    args = container(named("Deployment", "ttscale-router"))["args"]
    parsed = arguments.parse_router_args(args)

    assert parsed.policy == "sticky_least_loaded"
    assert len(parsed.worker_urls) == 2


def test_the_lines_for_slurm_come_first_and_are_well_formed() -> None:
    """sbatch reads them up to the first command, and takes them for comments after it."""
    lines = SCRIPT.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    given = {i: line for i, line in enumerate(lines) if line.startswith("#SBATCH")}

    assert lines[0].startswith("#!")
    assert max(given) < first
    for line in given.values():
        name, value = re.fullmatch(r"#SBATCH --([a-z-]+)=(\S+)", line).groups()  # type: ignore[union-attr]
        assert re.fullmatch(OPTIONS[name], value), line


def test_the_batch_script_is_bash() -> None:
    """`bash -n` reads it without a word."""
    done = subprocess.run(["bash", "-n", str(SCRIPT)], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


PRINT = '#!/bin/bash\nprintf "%s\\n" "$(basename "$0") $*" "pid $$" >> "$LOG"\n'
STUBS = {
    "scontrol": '#!/bin/bash\nprintf "%s\\n" node1 node2\n',
    "curl": "#!/bin/bash\nexit 0\n",
    "srun": PRINT + 'echo "key ${#VLLM_API_KEY}" >> "$LOG"\nexec sleep 60\n',
    "venv/bin/vllm-router": PRINT + "exec sleep 60\n",
    "venv/bin/ttscale": PRINT + 'echo "key ${#TTSCALE_API_KEY}" >> "$LOG"\nsleep 1\nexit 7\n',
}
"""Stand in for what a cluster has."""


def test_the_batch_script_starts_and_stops_everything(tmp_path: Path) -> None:
    """With stubs for SLURM and the servers: who is started how, and that none is left behind."""
    for name, text in STUBS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    log = tmp_path / "log"
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "VENV": str(tmp_path / "venv"),
        "OUT": str(tmp_path / "out"),
        "LOG": str(log),
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NODELIST": "node[1-2]",
    }
    done = subprocess.run(
        ["bash", str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=30
    )
    said = log.read_text()

    assert (done.returncode, done.stderr) == (7, "")  # the evaluation's own code
    assert "--worker-urls http://node1:8000 http://node2:8000" in said
    assert "srun" in said
    assert "serve Qwen/Qwen3-8B --host 0.0.0.0 --port 8000" in said
    assert "eval --base-url http://127.0.0.1:30000/v1" in said
    assert said.count("key 48") == 2  # in the environment of both, in no command line
    pids = [Path("/proc") / pid for pid in re.findall(r"^pid (\d+)$", said, re.MULTILINE)]
    assert len(pids) == 3
    deadline = time.monotonic() + 10
    while any(pid.exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(pid.exists() for pid in pids)
