"""The way of one recipe through the package, from the launch of a search to the trained trial.

A file is on the way if one of its functions is called with a `Recipe` as an argument (a method's own object among
them) while one small search is launched and its only trial is trained. The driver's and the worker's parts run in this
process, one after the other, without Ray and MLflow: the trial travels as the plain data that Tune would carry.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prune_search.ledger.records import SearchRecords
    from prune_search.tracking.delivery_thread import Undelivered

PACKAGE = "prune_search"
# One recipe with all that recipes usually have: a score of data, a transform, a mask that moves while it is retrained.
SPACE = """\
preset: rigl
task: {data: digits, model: {name: mlp, hidden: [8]}}
train: {steps: 8it, batch: 32}
mask: {sparsity: {hole: uniform, low: 0.5, high: 0.9}}
weights: {transform: [batchnorm-recalibrate]}
retrain: {dynamics: {name: rigl, every: 2it}}
search: {trials: 1, concurrency: 1, controls: false, seed: 1}
"""


def files_entered() -> dict[str, list[str]]:
    """The files on the way, and the functions in them that were called with a recipe, by their names."""
    import prune_search
    from prune_search.recipe.recipe import Recipe

    # What is registered is imported once, whatever is launched.
    root = Path(prune_search.__file__).parent
    entered: dict[str, set[str]] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(str(root)):
            return
        if any(isinstance(frame.f_locals.get(name), Recipe) for name in _arguments(code)):
            file = Path(code.co_filename).relative_to(root).as_posix()
            entered.setdefault(file, set()).add(code.co_qualname if hasattr(code, "co_qualname") else code.co_name)

    with tempfile.TemporaryDirectory(prefix="prune-search-") as folder, _profiled(note):
        _launched(Path(folder))
    return {file: sorted(names) for file, names in sorted(entered.items())}


def _arguments(code: CodeType) -> tuple[str, ...]:
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return code.co_varnames[:count]


@contextmanager
def _profiled(note: Any) -> Iterator[None]:
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)


def _launched(storage: Path) -> None:
    """Type the launch; the trial is trained here where the driver would hand it to Ray Tune."""
    from unittest import mock

    from prune_search.api import search
    from prune_search.cli import main

    (storage / "way.yaml").write_text(SPACE)
    words = [
        "launch",
        str(storage / "way.yaml"),
        "--storage",
        str(storage),
        "--device",
        "cpu",
        "--json",
    ]
    with (
        mock.patch.dict(os.environ, {"XDG_STATE_HOME": str(storage / "state")}),
        mock.patch.object(sys, "argv", ["prune-search", *words]),
        mock.patch.object(search, "_trained", _here),
        mock.patch.object(search, "draw", return_value=None),
        mock.patch("prune_search.tracking.delivery_thread.DeliveryThread", _NoDelivery),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()) as told,
    ):
        try:
            main.main()
        except SystemExit as ended:
            if ended.code:
                raise RuntimeError(told.getvalue()) from ended


class _NoDelivery:
    """MLflow is not asked."""

    def __init__(self, *_: object) -> None:
        pass

    def start(self) -> None:
        """Nothing."""

    def finish(self, seconds: float) -> Undelivered:
        """Nothing is left."""
        from prune_search.tracking.delivery_thread import Undelivered

        return Undelivered(0, None)


def _here(space: Any, options: Any, examples: int) -> Any:
    """As `api.search._trained`, without Ray."""
    from prune_search.ledger.records import TrialRecords
    from prune_search.search.epochs import EpochLengths
    from prune_search.search.next_trial import NextTrial
    from prune_search.search.ray.driver import Launched, _job
    from prune_search.search.ray.worker import TrialJob, run_job

    def run(folder: Any, asked: Any, listener: Any) -> SearchRecords:
        epochs = EpochLengths(options.data_folder, options.code)
        next_trial = NextTrial.open(folder, space, epochs, asked, examples)
        while isinstance(trial := next_trial.next(), TrialRecords):
            job = _job(trial, Launched(folder, space, options, examples), next_trial.tree, {})
            assert run_job(TrialJob.of_config(job.as_config())) == "completed"
            listener(next_trial.records, next_trial.done(trial.id, None))
        return next_trial.records

    return run


def told() -> Iterator[str]:
    """The files on the way, a line each."""
    found = files_entered()
    yield f"files that one recipe enters between the launch and the trained trial: {len(found)}"
    yield from (f"  {file}: {', '.join(names)}" for file, names in found.items())


if __name__ == "__main__":
    print("\n".join(told()))
