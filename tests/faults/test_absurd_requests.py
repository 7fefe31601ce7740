"""Absurd requests are refused by their limits, before anything is allocated: row 15 of the fault table."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from prune_search.recipe import axes, space
from prune_search.recipe.fields import Integer, ListOf
from prune_search.recipe.problems import UserError
from prune_search.recipe.strict_yaml import scalar

pytestmark = pytest.mark.faults

ABSURD = {
    "train.steps": "1000000000000ep",
    "train.batch": "1000000000",
    "train.threads": "1000000",
    "task.seed": "10000000000000000000",
    "task.model": "{name: mlp, hidden: [1000000000]}",
    "retrain.steps": "1000000000000it",
    "retrain.clock": "1000000000000ep",
    "rounds": "1000000",
    "weights.at": "999999999999it",
    "mask.score.iterations": "1000000000",
    "mask.score.batches": "1000000000000",
    "mask.score.per_class": "1000000000000",
    "search.trials": "1000000",
    "search.concurrency": "1000000000",
    "search.cpus_per_trial": "1.0e+12",
    "search.time_budget": "1.0e+300",
    "mask.sparsity": "{hole: uniform, low: 0, high: 1.0e+18}",
    "train.augment": "{name: crop-flip, pad: 1000000000}",
}


@pytest.mark.parametrize("key", ABSURD)
def test_an_absurd_request_is_refused_by_its_limit(key: str) -> None:
    with pytest.raises(UserError) as caught:
        space.read_space({"preset": "snip"}, "file", [(key, scalar(ABSURD[key]))])
    (problem,) = caught.value.problems
    assert problem.path.startswith(key)


def test_absurd_requests_are_refused_before_torch_is_imported_or_memory_is_taken() -> None:
    code = f"""
import resource, sys
from prune_search.recipe.problems import UserError
from prune_search.recipe.space import read_space
from prune_search.recipe.strict_yaml import scalar

read_space({{"preset": "snip"}}, "file")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for key, value in {ABSURD!r}.items():
    try:
        read_space({{"preset": "snip"}}, "file", [(key, scalar(value))])
    except UserError:
        continue
    sys.exit(f"{{key}} was accepted")
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
sys.exit(f"{{grown}} KiB, torch: {{'torch' in sys.modules}}" if grown > 20_000 or "torch" in sys.modules else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


MODEL_SIZES = [
    (name, key)
    for name, entry in sorted(axes.MODELS.items())
    for key, option in entry.options.items()
    if isinstance(option.field, Integer)
    or (isinstance(option.field, ListOf) and isinstance(option.field.item, Integer))
]


@pytest.mark.parametrize(("name", "key"), MODEL_SIZES)
def test_no_model_has_a_billion_units(name: str, key: str) -> None:
    field = axes.MODELS[name].options[key].field
    value: Any = [10**9] * max(field.least, 1) if isinstance(field, ListOf) else 10**9
    with pytest.raises(UserError) as caught:
        space.read_space({"preset": "snip", "task": {"model": {"name": name, key: value}}}, "file")
    assert all(problem.path.startswith(f"task.model.{key}") for problem in caught.value.problems)


def test_more_iterations_than_anybody_trains_are_refused_where_the_data_set_s_size_is_known() -> None:
    raw = {"preset": "snip", "task": {"data": "fashion-mnist"}, "train": {"steps": "1000000ep", "batch": 10}}
    with pytest.raises(UserError, match=r"train\.steps: is 5500000000 iterations; at most 1000000000 are allowed"):
        space.read_space(raw, "file")


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ({"preset": "snip", "rounds": {"hole": "choice", "of": [1] * 1001}}, "rounds.of"),
        ({"any": [{"preset": "snip"}] * 1001}, "any"),
        ({"preset": "snip", "weights": {"transform": ["reinit"] * 101}}, "weights.transform"),
        ({"preset": "snip", "task": {"model": {"name": "mlp", "hidden": [1] * 11}}}, "task.model.hidden"),
        ({"preset": "snip", "train": {"schedule": {"name": "step", "at": ["1it"] * 101}}}, "train.schedule.at"),
        ({"preset": "snip", "search": {"objectives": ["maximize sparsity"] * 11}}, "search.objectives"),
    ],
)
def test_lists_have_an_end(raw: dict[str, Any], path: str) -> None:
    with pytest.raises(UserError) as caught:
        space.read_space(raw, "file")
    assert [problem.path for problem in caught.value.problems] == [path]
