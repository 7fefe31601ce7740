"""Every task pruned by every paradigm: stopped and taken up again, exact when repeated, and loaded in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_tasks
import pytest
import torch
from every_task import METRICS, NAMES, PARADIGMS, given, paradigms
from safetensors.torch import load_file
from torch import Tensor

import prune_search
from prune_search.tasks.batches import adapted
from prune_search.tasks.outputs import logits_of
from prune_search.training.state_store import PreemptedError
from prune_search.trial.callbacks import Silent

pytestmark = pytest.mark.slow


class Stopping(Silent):
    """Ends a trial after so many steps in all; softly, so that its state is stored, or as a kill does."""

    def __init__(self, steps: int, error: Callable[[], BaseException]) -> None:
        self.left, self.error = steps, error

    def step(self, step: int, total: int, loss: Tensor) -> None:
        """Count down."""
        self.left -= 1
        if self.left == 0:
            raise self.error()


def killed() -> BaseException:
    return KeyboardInterrupt()


@pytest.mark.parametrize("name", NAMES)
def test_a_stopped_trial_goes_on_to_the_same_bits_and_is_exact_when_repeated(name: str, tmp_path: Path) -> None:
    sets, where = given(name, tmp_path)
    for preset in paradigms(name):
        values = {
            **sets,
            **{f"{block}.{key}": v for block, keys in PARADIGMS[preset].items() for key, v in keys.items()},
        }
        whole = prune_search.run(preset, set=values, where=where, fresh=True)
        assert f"val/{METRICS[name][0]}" in whole.metrics
        for steps, error in ((5, PreemptedError), (3, killed)):
            with pytest.raises((PreemptedError, KeyboardInterrupt)):
                prune_search.run(preset, set=values, where=where, sink=Stopping(steps, error))
        out = tmp_path / preset
        found = prune_search.run(preset, set=values, where=where, out=out)
        assert (found.masks.sha256, found.weights_sha256) == (whole.masks.sha256, whole.weights_sha256), preset
        assert found.metrics == whole.metrics
    assert prune_search.verify(out, where=where).verdict == "exact"


@pytest.mark.parametrize("name", [one for one in NAMES if one.values[0] != "pictures"])
def test_the_result_is_a_state_dict_of_ones_own_network(name: str, tmp_path: Path) -> None:
    sets, where = given(name, tmp_path)
    result = prune_search.run("snip", set={**sets, "mask.sparsity": 0.6}, where=where, out=tmp_path / "out")
    task: Any = getattr(made_tasks, name)()
    network = task.model()
    state = load_file(tmp_path / "out" / "model.safetensors")
    # What is tied is stored once.
    missing = network.load_state_dict(state, strict=False)
    assert missing.unexpected_keys == []
    assert set(missing.missing_keys) <= {"head.weight"}
    zeros = sum(int((state[layer] == 0).sum()) for layer in result.masks)
    assert zeros >= sum(int((~mask).sum()) for mask in result.masks.values()) > 0
    setup_data = where.trial_setup(_recipe(sets, where)).data
    with torch.no_grad():
        batch = setup_data.validation.head(8)
        inputs = setup_data.usage.rules.inputs(batch)  # type: ignore[union-attr]
        assert torch.isfinite(logits_of(adapted(network.eval())(inputs))).all()


def _recipe(sets: dict[str, Any], where: prune_search.Where) -> Any:
    from prune_search.api.target import read_target

    assignments = [*sets.items(), ("mask.sparsity", 0.6), *where.assignments()]
    return read_target("snip", assignments)[0].only_recipe()
