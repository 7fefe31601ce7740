"""What is shipped to the nodes of a cluster: this package, the user's code, and variables that are not secret."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# No secret is among them: a job's environment is shown to everyone who sees the cluster's pages.
PASSED = ("PRUNE_SEARCH_PLUGINS", "PRUNE_SEARCH_STORAGE_BUDGET", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION")
# The last two Ray reads on the workers, which do not know the environment of the job's own process.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "PYTHONUNBUFFERED": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# What lies beside code and is none.
NOT_SHIPPED = (
    ".git",
    ".venv",
    "venv",
    "__pycache__",
    "node_modules",
    "prune-search-store",
    "mlruns",
    "mlartifacts",
    "mlflow.db",
    "*.safetensors",
    "*.pem",
    ".env",
    ".netrc",
    ".pgpass",
    ".aws",
    ".ssh",
)
# Ray sets it in a process that is a job's: what the job was sent with holds for all that it starts.
IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def runtime_env(folder: Path | None, environment: Mapping[str, str]) -> dict[str, Any]:
    """What Ray unpacks on every node that works for a search.

    Args:
        folder: of the user's code, which is the working directory there; None ships none.
        environment: variables.
    """
    shipped = {} if folder is None else {"working_dir": str(folder), "excludes": list(NOT_SHIPPED)}
    return {"py_modules": [str(Path(__file__).parents[2])], "env_vars": dict(environment), **shipped}


def job_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that a search's processes are given on every node."""
    return {**QUIET, **{name: environ[name] for name in PASSED if environ.get(name)}}


def names_code(code: Mapping[str, Any]) -> bool:
    """Whether code of the user's own is needed: a model, a data set, or a plug-in, in the current directory."""
    return any(":" in str(code.get(key) or "") for key in ("model", "data")) or "PRUNE_SEARCH_PLUGINS" in os.environ
