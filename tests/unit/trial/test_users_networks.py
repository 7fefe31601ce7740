"""Networks of a user that are out of the ordinary: frozen, parametrized, or raising while they are trained."""

from __future__ import annotations

from multiprocessing import active_children

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from prune_search.api.run import run
from prune_search.api.where import Where
from prune_search.recipe.problems import UserError
from prune_search.tasks.task import Task
from prune_search.trial.errors import TrialError

SHORT = {"train.steps": "1ep", "mask.sparsity": 0.5}


def frozen(shape: tuple[int, ...], classes: int) -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, classes))
    network[1].requires_grad_(False)
    return network


def normed(shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(64, classes)))


class Moody(nn.Module):
    """Works when it is looked at, and fails when it is trained."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(64, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            raise LookupError("no mood\nfor this")
        scores: Tensor = self.layer(inputs.flatten(1))
        return scores


def moody(shape: tuple[int, ...], classes: int) -> nn.Module:
    return Moody(classes)


def test_a_frozen_weight_is_scored_and_pruned_and_stays_frozen() -> None:
    result = run("snip", set=SHORT, where=Where(model=frozen), fresh=True)
    assert result.receipt.units_kept == (64 * 8 + 8 * 10) // 2
    kept = result.masks["1.weight"]
    drawn = run("snip", set={**SHORT, "mask.sparsity": 0.0}, where=Where(model=frozen), fresh=True)
    assert torch.equal(result.tensors["1.weight"], drawn.tensors["1.weight"] * kept)


def test_a_weight_that_is_computed_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"task\.model: 1\.weight: computed from other parameters"):
        run("snip", set=SHORT, where=Where(model=normed), fresh=True)


def test_an_error_of_the_users_network_is_one_line() -> None:
    told = r"^your code raised LookupError: no mood for this \(line \d+ of .*test_users_networks.py\)$"
    with pytest.raises(TrialError, match=told) as caught:
        run("dense", set={"train.steps": "1ep"}, where=Where(model=moody), fresh=True)
    assert caught.value.kind == "code"


def strict_loss(outputs: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Takes no label 3 and over, which are not among the first examples."""
    if int(batch[1].max()) > 2:
        raise LookupError("an unknown label")
    return functional.cross_entropy(outputs, batch[1])


def strict_task() -> Task:
    inputs, labels = torch.randn(400, 1, 8, 8), torch.arange(400) // 100
    return Task(train=(inputs, labels), validation=(inputs[:9], labels[:9]), loss=strict_loss, classes=4)


def test_so_is_an_error_of_a_loss_in_the_middle_of_a_training_where_the_network_is_a_registered_one() -> None:
    sets = {"train.steps": "1ep", "task.model": {"name": "mlp", "hidden": [4]}}
    with pytest.raises(TrialError, match=r"^your code raised LookupError: an unknown label \(line \d+ of ") as caught:
        run("dense", set=sets, where=Where(data=strict_task), fresh=True)
    assert caught.value.kind == "code"


def read_task() -> Task:
    data = torch.utils.data.TensorDataset(torch.randn(60, 64), torch.arange(60) % 4)
    return Task(train=data, validation=0.2, classes=4, workers=1)


@pytest.mark.parametrize("preset", ["fine-tune", "thinet"])
def test_no_process_that_reads_examples_outlives_its_trial(preset: str) -> None:
    before = set(active_children())
    sets = {
        "train.steps": "4it",
        "retrain.steps": "2it",
        "train.batch": 8,
        "task.model": {"name": "mlp", "hidden": [8]},
    }
    run(preset, set=sets, where=Where(data=read_task), fresh=True)
    assert set(active_children()) == before
