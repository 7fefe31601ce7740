"""Registers an exported network as an MLflow model, served by `mlflow.pyfunc` without pickle."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prune_search.compact.config_file import COMPACT_FILE, CONFIG_FILE
from prune_search.ledger.uris import masked
from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.tracking.names import MAX_TAG, cut
from prune_search.tracking.server import UnreachableError, prepare
from prune_search.tracking.settings import prepare_process

CHAMPION = "champion"
EXPERIMENT, TRACKING = "MLFLOW_EXPERIMENT_ID", "MLFLOW_TRACKING_URI"
SERVED = Path(__file__).with_name("pyfunc_model.py")
MAX_NAME = 200


def check_name(name: str) -> None:
    """Find out before anything is run whether a model can be registered under a name.

    Raises:
        UserError: it cannot.
    """
    if not name.strip() or len(name) > MAX_NAME or set(name) & set("/:\\") or not name.isprintable():
        text = f"must be a name without slashes and colons, at most {MAX_NAME} characters (got {shown(name)})"
        raise UserError([Problem("--register", text)])


Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ModelOrigin:
    """What the registry tells of where a network comes from.

    Attributes:
        text: its description, Markdown.
        tags: name to value.
        run: MLflow's id of the run of the trial it was found in, where that is known.
    """

    text: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    run: str | None = None


def register(
    folder: Path, name: str, uri: str, experiment: str, inputs: Array, outputs: Array, origin: ModelOrigin | None = None
) -> str:
    """Register a folder's compact network, and make it the champion.

    Args:
        folder: with config.json and compact.safetensors.
        name: of the registered model; a new version of it where there is one.
        uri: of MLflow.
        experiment: by whose side it is kept, where there is one of that name.
        inputs: an example, [N, …] float32.
        outputs: what the network makes of it.
        origin: what is told of it besides.

    Returns:
        The version. ``mlflow.pyfunc.load_model("models:/NAME@champion").predict(inputs)`` serves it.

    Raises:
        UserError: MLflow cannot be reached, or refuses it.
    """
    prepare_process()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    try:
        prepare(uri)
    except UnreachableError as error:
        raise UserError([Problem("--register", str(error))]) from None
    origin = origin or ModelOrigin()
    before, behind = (Schema([TensorSpec(each.dtype, (-1, *each.shape[1:]))]) for each in (inputs, outputs))
    try:
        with _at(uri, experiment):
            client = mlflow.MlflowClient()
            begun = mlflow.initialize_logged_model(name=name, source_run_id=_kept(client, origin.run))
            logged = mlflow.pyfunc.log_model(
                name=name,
                model_id=begun.model_id,
                python_model=str(SERVED),
                artifacts={part: str((folder / part).absolute()) for part in (CONFIG_FILE, COMPACT_FILE)},
                signature=ModelSignature(before, behind),
                pip_requirements=["prune-search", "torch", "safetensors"],
                registered_model_name=name,
            )
            version = str(logged.registered_model_version)
            client.update_model_version(name, version, origin.text)
            for tag, value in origin.tags.items():
                client.set_model_version_tag(name, version, tag, cut(value, MAX_TAG))
            if not client.get_registered_model(name).description:
                client.update_registered_model(name, cut(origin.text, MAX_TAG))
            client.set_registered_model_alias(name, CHAMPION, version)
    except (mlflow.exceptions.MlflowException, OSError) as error:
        lines = str(error).splitlines() or [""]
        text = f"MLflow at {masked(uri)} refused the model: {lines[0][:300]}"
        raise UserError([Problem("--register", text)]) from error
    return version


def _kept(client: Any, run: str | None) -> str | None:
    """The run, where MLflow there has it and nobody deleted it."""
    from mlflow.exceptions import MlflowException

    if run is None:
        return None
    try:
        return run if client.get_run(run).info.lifecycle_stage == "active" else None
    except MlflowException:
        # That MLflow never got the search.
        return None


@contextmanager
def _at(uri: str, experiment: str) -> Iterator[None]:
    """MLflow's functions mean this tracking and experiment, and say nothing; afterwards what they meant before."""
    import mlflow

    logger = logging.getLogger("mlflow")
    level = logger.level
    before = {name: os.environ.get(name) for name in (EXPERIMENT, TRACKING)}
    logger.setLevel(logging.ERROR)
    mlflow.set_tracking_uri(uri)
    try:
        found = mlflow.MlflowClient().get_experiment_by_name(experiment)
        if found is not None:
            os.environ[EXPERIMENT] = found.experiment_id
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        # It sets the variable too, and forgets both.
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
        for variable, value in before.items():
            os.environ.pop(variable, None)
            if value is not None:
                os.environ[variable] = value
        logger.setLevel(level)
