"""A whole trial: the callbacks in their order, the account of its steps, and what it leaves in the caller's process."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from prune_search.training.loop import TrainingError
from prune_search.training.state_store import PreemptedError
from prune_search.trial.callbacks import Guarded, Observation, Silent
from prune_search.trial.errors import TrialError
from prune_search.trial.result import RoundResult
from prune_search.trial.run import Sharing, results_differ, run_trial, settings_of
from prune_search.trial.setup import TrialSetup

SetupOf = Callable[[Mapping[str, Any]], TrialSetup]


def small(preset: str = "snip", **more: Any) -> dict[str, Any]:
    task = {"model": {"name": "mlp", "hidden": [4]}}
    return {"preset": preset, "task": task, "train": {"steps": "6it", "batch": 50}, **more}


class Telling(Silent):
    """Keeps what it is told, in its order."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def started(self, key: str, total: int) -> None:
        self.told.append(f"started {total}")

    def stage(self, name: str, total: int) -> None:
        self.told.append(f"stage {name} {total}")

    def observe_at(self, total: int, epoch: int, settled: int) -> Collection[int]:
        return (2, total)

    def observed(self, seen: Observation) -> None:
        self.told.append(f"observed {seen.step} of {seen.steps_trained}")

    def round_done(self, result: RoundResult) -> None:
        self.told.append(f"round {result.number}")


def test_a_trial_tells_of_its_start_its_stages_its_measurements_and_its_rounds(setup_of: SetupOf) -> None:
    sink = Telling()
    result = run_trial(setup_of(small("lottery-ticket", rounds=2)), None, sink)
    assert sink.told == [
        "started 18",
        "stage train 6",
        *["stage retrain (round 1) 6", "observed 2 of 8", "round 1"],
        *["stage retrain (round 2) 6", "observed 2 of 14", "round 2"],
    ]
    assert [item.metrics["steps_trained"] for item in result.rounds] == [12, 18]


def test_a_second_run_on_the_same_storage_trains_nothing_and_has_the_same_result(
    setup_of: SetupOf, tmp_path: Path
) -> None:
    first, second = (run_trial(setup_of(small("lottery-ticket", rounds=1)), tmp_path) for _ in range(2))
    assert results_differ(first.as_data(), second.as_data()) == "exact"
    assert (first.steps, second.steps) == ((12, 0, 0), (0, 12, 0))


def test_a_trial_that_was_asked_to_stop_goes_on_from_there(setup_of: SetupOf, tmp_path: Path) -> None:
    asked = iter((False, False, True))
    account = Sharing()
    with pytest.raises(PreemptedError):
        run_trial(setup_of(small()), tmp_path, Guarded(Silent(), lambda: next(asked)), sharing=account)
    assert account.steps.trained == 3
    resumed = run_trial(setup_of(small()), tmp_path)
    assert resumed.steps[0] == 3
    assert results_differ(resumed.as_data(), run_trial(setup_of(small()), None).as_data()) == "exact"


def test_a_loss_that_is_no_number_is_an_error_of_the_trial_with_its_kind(setup_of: SetupOf) -> None:
    with pytest.raises(TrialError) as caught:
        run_trial(setup_of(small(train={"steps": "6it", "batch": 50, "optimizer": {"lr": 1e30}})), None)
    assert caught.value.kind == "nan"
    assert isinstance(caught.value.__cause__, TrainingError)


def test_the_caller_s_threads_and_random_state_are_put_back(setup_of: SetupOf) -> None:
    setup = setup_of(small(train={"threads": 3}))
    torch.manual_seed(0)
    wanted: Tensor = torch.rand(1)
    torch.manual_seed(0)
    with settings_of(setup):
        assert torch.get_num_threads() == 3
        torch.rand(7)
    assert torch.get_num_threads() == 1
    assert torch.equal(torch.rand(1), wanted)


@pytest.mark.parametrize(
    ("mask", "weights", "said"), [("a", "b", "exact"), ("a", "c", "mask-equal"), ("d", "b", "different")]
)
def test_two_results_are_compared_by_their_digests(mask: str, weights: str, said: str) -> None:
    one = {"mask_sha256": "a", "weights_sha256": "b"}
    assert results_differ(one, {"mask_sha256": mask, "weights_sha256": weights}) == said
