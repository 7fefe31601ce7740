"""The folder of a finished run: recipe.yaml, model.safetensors, masks.safetensors, metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from prune_search.compact.file_names import MODEL_FILE
from prune_search.recipe import strict_yaml
from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.recipe.space import RECIPE_FILE
from prune_search.storage.digests import masks_digest, weights_digest
from prune_search.storage.files import put_folder
from prune_search.storage.json_files import json_bytes, read_json
from prune_search.storage.tensors import encode, load_tensors
from prune_search.trial.result import Result
from prune_search.trial.teachers import TEACHER_RECIPE, TEACHER_WEIGHTS, GivenTeacher

MASKS_FILE, METRICS_FILE, START_FILE = "masks.safetensors", "metrics.json", "start.safetensors"


def check_out(folder: Path, key: str) -> None:
    """Refuse, before anything is trained, a folder that holds something else than an earlier run of the same recipe.

    Raises:
        UserError: it is a file, cannot be made, or holds anything that would be lost.
    """
    try:
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.rmdir()
            return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError([Problem("--out", f"{shown(str(folder))} cannot be used as a folder: {reason}")]) from None
    if not folder.is_dir():
        raise UserError([Problem("--out", f"{shown(str(folder))} is a file, not a folder")])
    if any(folder.iterdir()) and read_metrics(folder, missing_ok=True).get("key") != key:
        raise UserError([Problem("--out", f"{shown(str(folder))} contains other files: choose a new or empty folder")])


def recipe_text(result: Result) -> str:
    """recipe.yaml: the canonical recipe under a comment that says how to run it again."""
    canonical = result.recipe.starting_from(START_FILE, TEACHER_RECIPE)
    head = f"# {result.paradigm}, sparsity {result.receipt.reached:.4f}, key {result.key}\n"
    return f"{head}# prune-search run DIR --verify   (DIR: this folder)\n{strict_yaml.dump(canonical)}"


def write_folder(
    result: Result, folder: Path, start: Mapping[str, Any] | None = None, teacher: GivenTeacher | None = None
) -> None:
    """Write a finished run, whole or not at all.

    Args:
        result: the run.
        folder: made, or replaced where it holds a run of the same key.
        start: the weights of ``train.from``, written beside where the recipe has them.
        teacher: the network of ``retrain.loss.teacher``, likewise.

    Raises:
        StorageError: it could not be written.
    """
    files = {
        RECIPE_FILE: recipe_text(result).encode(),
        MODEL_FILE: encode(result.tensors),
        MASKS_FILE: encode(result.masks.masks),
        METRICS_FILE: json_bytes(result.as_data()),
    }
    if start is not None:
        files[START_FILE] = encode(start)
    if teacher is not None:
        files[TEACHER_RECIPE] = strict_yaml.dump(teacher.recipe.canonical).encode()
        files[TEACHER_WEIGHTS] = encode(dict(teacher.tensors))
    put_folder(folder.absolute(), files, lambda there: False)


def read_metrics(folder: Path, missing_ok: bool = False) -> dict[str, Any]:
    """metrics.json of a folder, as plain data.

    Raises:
        UserError: it is missing, too large, no regular file or no JSON object.
    """
    path = folder / METRICS_FILE
    return {} if missing_ok and not path.exists() else read_json(path)


@dataclass(frozen=True)
class RecordedResult:
    """What a folder says came out of its recipe, checked against the tensors in it.

    Attributes:
        mask_sha256, weights_sha256: digests of the tensors that lie there.
        environment: the environment class that it was run in.
    """

    mask_sha256: str
    weights_sha256: str
    environment: Mapping[str, Any]

    def as_data(self) -> dict[str, str]:
        """The two digests."""
        return {"mask_sha256": self.mask_sha256, "weights_sha256": self.weights_sha256}


def read_recorded(folder: Path) -> RecordedResult:
    """Read and check a folder's claims. Nothing in it is run.

    Raises:
        UserError: as `read_folder` does.
    """
    metrics = read_folder(folder).metrics
    environment = metrics.get("environment")
    known = environment if isinstance(environment, dict) else {}
    return RecordedResult(metrics["mask_sha256"], metrics["weights_sha256"], known)


@dataclass(frozen=True, eq=False)
class Written:
    """What lies in the folder of a finished run, besides its recipe.

    Attributes:
        weights: parameters and buffers by name.
        masks: parameter name to bool tensor, True where the weight is kept.
        metrics: metrics.json.
    """

    weights: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    metrics: Mapping[str, Any]


def read_folder(folder: Path) -> Written:
    """Read and check what `write_folder` wrote. Nothing in it is run.

    Raises:
        UserError: a file is missing or corrupt, or the tensors are not those that metrics.json speaks of.
    """
    metrics = read_metrics(folder)
    masks = load_tensors(folder / MASKS_FILE)
    weights = load_tensors(folder / MODEL_FILE)
    problems = []
    try:
        found = {
            "mask_sha256": (MASKS_FILE, masks_digest(masks)),
            "weights_sha256": (MODEL_FILE, weights_digest(weights)),
        }
    except (TypeError, ValueError) as error:
        raise UserError([Problem("", str(error), str(folder / MASKS_FILE))]) from None
    for claim, (name, digest) in found.items():
        if metrics.get(claim) != digest:
            text = f"does not match {METRICS_FILE} ({claim} {shown(metrics.get(claim))}, found {digest})"
            problems.append(Problem("", text, str(folder / name)))
    if problems:
        raise UserError(problems)
    return Written(weights, masks, metrics)
