"""The files in cluster/: what can be found out about them without a cloud."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from real_search import TESTS

from prune_search.cli.main import command_line

CLUSTER = TESTS.parent / "cluster"
LAUNCHER = ("aws.yaml", "gcp.yaml", "on-premise.yaml")
SCRIPTS = ("start-ray.sh", "run-or-resume.sh", "slurm.sh")
KUBERAY = ("kuberay-cluster.yaml", "kuberay-job.yaml")
QUIET = ("RAY_USAGE_STATS_ENABLED", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")
BASH = shutil.which("bash")
NEEDS_BASH = pytest.mark.skipif(BASH is None, reason="needs bash")


def read(name: str) -> Any:
    return yaml.safe_load((CLUSTER / name).read_text())


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((CLUSTER / name).read_text()))


def comment(name: str) -> str:
    """The comment that a file begins with."""
    lines = (CLUSTER / name).read_text().splitlines()
    lines = lines[1:] if lines[0].startswith("#!") else lines
    head = [line[1:].removeprefix(" ") for line in lines[: next(n for n, line in enumerate(lines) if line[:1] != "#")]]
    return "\n".join(head)


@pytest.mark.parametrize("path", sorted(path.name for path in CLUSTER.iterdir() if path.name != "README.md"))
def test_each_file_begins_with_commands_that_are_there(path: str) -> None:
    text = comment(path)
    commands = [line.strip() for line in text.splitlines() if line.startswith("  ")]
    assert commands, "no command in the first comment"
    for line in commands:
        words = shlex.split(line.partition("  #")[0].removesuffix("\\"), comments=False)
        if words[0] == "prune-search":
            parse(words[1:])
        for word in words:
            named = re.fullmatch(r"cluster/[\w.-]+", word)
            assert named is None or word == "cluster/services.env" or (TESTS.parent / word).exists(), word
    assert f"`{path}`" in (CLUSTER / "README.md").read_text()


def parse(words: list[str]) -> None:
    """The command line takes a command, with its options."""
    verb, *rest = [word.replace("…", "x") for word in words]
    command: Any = command_line()
    context = command.commands[verb].make_context(verb, rest)
    if verb == "submit":
        own = {"address", "storage"}
        assert own <= {name for name, value in context.params.items() if value}
        command.commands["launch"].make_context("launch", [context.params["space"], *context.args])


@pytest.mark.parametrize("name", LAUNCHER)
def test_launcher_files_are_what_ray_takes(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = read(name)
    validate_config(prepare_config(config))
    with pytest.raises(Exception, match="unknown_key"):
        validate_config(prepare_config(read(name) | {"unknown_key": 1}))
    start = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert [line.split()[0] for line in start if line != "ray stop"] == ["start-ray.sh", "start-ray.sh"]
    options = shlex.split(" ".join(config["docker"]["run_options"]))
    environment = dict(word.split("=") for word in options if "=" in word and word[0].isupper())
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_NODE_BLOCK"] == "0", "the launcher waits for the command to end"
    assert environment["RAY_AUTH_TOKEN_PATH"] in config["file_mounts"]
    assert f"chmod 600 {environment['RAY_AUTH_TOKEN_PATH']}" in config["setup_commands"]
    assert set(QUIET) <= set(environment)
    assert ":latest" not in config["docker"]["image"]


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_clouds_have_a_head_on_demand_and_spot_workers_from_none(name: str) -> None:
    types = read(name)["available_node_types"]
    head, gpu = json.dumps(types["head"]), types["gpu"]
    assert "spot" not in head.lower()
    assert "preempt" not in head.lower()
    assert types["head"]["resources"] == {"CPU": 0}
    assert gpu["min_workers"] == 0
    assert "spot" in json.dumps(gpu["node_config"]).lower()
    assert "--gpus all" in gpu["docker"]["worker_run_options"]


def wrong(value: Any, wanted: Any, path: str, fields: Any) -> list[str]:
    """Where a value is not as the published fields say."""
    kinds: dict[str, Any] = {
        "string": str,
        "integer": int,
        "boolean": bool,
        "array": list,
        "object": dict,
        "number": (int, float),
    }
    if wanted == "cluster":
        return wrong(value, fields["cluster"], path, fields)
    if wanted == "strings":
        return [f"{path}.{key}: {text!r} is no text" for key, text in value.items() if not isinstance(text, str)]
    if isinstance(wanted, str):
        return [] if isinstance(value, kinds[wanted]) else [f"{path}: {value!r} is no {wanted}"]
    if isinstance(wanted, list) and isinstance(wanted[0], str):
        return [] if value in wanted else [f"{path}: {value!r} is not one of {wanted}"]
    if isinstance(wanted, list):
        return [
            line for number, item in enumerate(value) for line in wrong(item, wanted[0], f"{path}[{number}]", fields)
        ]
    required = {key[1:] for key in wanted if key.startswith("+")}
    known = {key.removeprefix("+"): kind for key, kind in wanted.items()}
    found = [f"{path}.{key} is missing" for key in required - set(value)]
    found += [f"{path}.{key} is not known" for key in value if key not in known]
    return found + [line for k, v in value.items() if k in known for line in wrong(v, known[k], f"{path}.{k}", fields)]


@pytest.mark.parametrize(("name", "kind"), [("kuberay-cluster.yaml", "RayCluster"), ("kuberay-job.yaml", "RayJob")])
def test_kuberay_files_are_of_the_published_fields(name: str, kind: str) -> None:
    fields = yaml.safe_load((TESTS / "cluster" / "kuberay_fields.yaml").read_text())
    resource = next(document for document in documents(name) if document["kind"] == kind)
    assert resource["apiVersion"] == "ray.io/v1"
    spec = resource["spec"]
    schema = fields["cluster" if kind == "RayCluster" else "job"]
    assert wrong(spec, schema, "spec", fields) == []
    assert wrong(spec | {"rayVersions": "2"}, schema, "spec", fields) == ["spec.rayVersions is not known"]
    cluster = spec if kind == "RayCluster" else spec["rayClusterSpec"]
    from importlib.metadata import version

    assert cluster["rayVersion"] == version("ray")
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    gpu = cluster["workerGroupSpecs"][0]
    assert (gpu["minReplicas"], gpu["replicas"]) == (0, 0)
    pods = [cluster["headGroupSpec"]["template"]["spec"], gpu["template"]["spec"]]
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        assert not container["image"].endswith(":latest")
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert set(QUIET) <= {item["name"] for item in container["env"]}
        # No secret stands in the file: credentials come from one of the cluster's.
        assert not any(re.search("SECRET|PASSWORD|TOKEN|KEY", item["name"]) for item in container["env"])
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert gpu["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    if kind == "RayJob":
        words = spec["entrypoint"].split()
        assert words[0] == "run-or-resume.sh"
        assert spec["backoffLimit"] > 0
    else:
        policy = next(document for document in documents(name) if document["kind"] == "NetworkPolicy")
        assert policy["spec"]["podSelector"] == {"matchLabels": {"ray.io/cluster": resource["metadata"]["name"]}}


@NEEDS_BASH
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_bash(name: str) -> None:
    path = CLUSTER / name
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert "set -euo pipefail" in path.read_text()


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_pass_shellcheck(name: str) -> None:
    found = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip("needs shellcheck")
    done = subprocess.run([found, str(CLUSTER / name)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


SRUN = """\
#!/usr/bin/env bash
while [[ ${1:-} == --* ]]; do shift; done
exec "$@"
"""
SEARCH = """\
#!/usr/bin/env bash
[ "$1" != status ] || { [ -e "$STUB/there" ]; exit; }
echo "$*" >> "$STUB/said"
trap 'echo stored >> "$STUB/said"; exit 143' TERM
touch "$STUB/running"
[ "$1" = launch ] || exit 0
while :; do sleep 0.1; done
"""


@NEEDS_BASH
def test_slurms_signal_reaches_the_search_and_the_job_goes_on(tmp_path: Path) -> None:
    """With stand-ins for Slurm, Ray and the search: what is tried is the script's own plumbing."""
    stubs = {
        "srun": SRUN,
        "scontrol": '#!/usr/bin/env bash\n[ "$1" = show ] && printf "n1\\nn2\\n" || echo "$*" >> "$STUB/said"\n',
        "hostname": "#!/usr/bin/env bash\necho 127.0.0.1\n",
        "ray": '#!/usr/bin/env bash\n[ "$1" = health-check ] || { echo "ray $*" >> "$STUB/ray"; exec sleep 60; }\n',
        "prune-search": SEARCH,
    }
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in stubs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_"))},
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "STUB": str(tmp_path),
        "HOME": str(tmp_path),
        "PRUNE_SEARCH_CLUSTER": str(CLUSTER),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_GPUS_ON_NODE": "4",
    }
    command = ["bash", str(CLUSTER / "slurm.sh"), "mine", "space.yaml", "--storage", "/s", "--", "--trials", "9"]
    job = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until(lambda: (tmp_path / "running").exists())
        job.send_signal(signal.SIGTERM)
        assert job.wait(20) == 143
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()
    said = (tmp_path / "said").read_text().splitlines()
    launched = "launch space.yaml --name mine --address 127.0.0.1:6379 --storage /s --trials 9"
    assert said == [launched, "stored", "requeue 7"]
    ray = (tmp_path / "ray").read_text()
    assert "start --head" in ray
    assert "start --address=127.0.0.1:6379" in ray
    assert ray.count("--num-gpus=4") == 2
    assert (tmp_path / ".prune-search-token-7").stat().st_mode & 0o777 == 0o600
    # What is queued again goes on.
    (tmp_path / "there").touch()
    assert subprocess.run(command, env=environment, check=False, stdout=subprocess.DEVNULL, timeout=30).returncode == 0
    assert (tmp_path / "said").read_text().splitlines()[-1] == "resume mine --address 127.0.0.1:6379 --storage /s"


def wait_until(what: Any) -> None:
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_image_is_pinned_and_runs_as_nobody_special() -> None:
    text = (CLUSTER / "Dockerfile").read_text()
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.M))
    images = [
        re.sub(r"\$\{(\w+)\}", lambda m: arguments[m[1]], line.split()[1]) for line in lines if line[:5] == "FROM "
    ]
    assert images == ["python:3.11.13-slim-bookworm"]
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users
    assert users[-1] not in ("root", "0")
    for line in lines:
        if line.startswith("RUN ") and "apt-get install" in line:
            assert "--no-install-recommends" in line
            assert "rm -rf /var/lib/apt/lists/*" in line
        if "pip install" in line:
            assert "--no-cache-dir" in line
        assert not line.startswith("ADD "), "COPY says what it does"
        if line.startswith(("ENV ", "ARG ")):
            assert not re.search("SECRET|PASSWORD|AUTH_TOKEN|API_KEY", line)
    assert "sudo" not in text
    environment = next(line for line in lines if line.startswith("ENV "))
    assert all(name in environment for name in QUIET)
    assert lines[-1].startswith(("CMD [", "ENTRYPOINT ["))
    ignored = (TESTS.parent / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1] if word[:2] != "--"]
    assert all((TESTS.parent / word).exists() and f"!{word}" in ignored for word in copied)
    # The torch of the image is one that the package takes.
    assert arguments["TORCH_VERSION"] == "2.13.0"


def test_the_services_are_pinned_asked_for_and_on_this_machine_only() -> None:
    text = (CLUSTER / "compose.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    example = (CLUSTER / "services.env.example").read_text()
    asked = set(re.findall(r"\$\{(\w+)(?::\?)?\}", text))
    assert asked == set(re.findall(r"^(\w+)=$", example, re.M)), "every secret is asked for, and none has a value"
    for name, service in services.items():
        assert re.search(r":[\w.-]*\d", service["image"]), name
        assert "latest" not in service["image"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        for key, value in (service.get("environment") or {}).items():
            if re.search("SECRET|PASSWORD|KEY", key):
                assert re.fullmatch(r"\$\{\w+:\?\}", value), f"{name}: {key}"
    command = services["mlflow"]["command"]
    assert command[:3] == ["prune-search", "ui", "--auth"]
    parse(command[1:])
    assert "--allowed-hosts=localhost:5000,127.0.0.1:5000,mlflow:5000" in command
    identities = yaml.safe_load(text)["configs"]["s3"]["content"]
    assert json.loads(identities)["identities"][0]["name"] == "prune-search"
