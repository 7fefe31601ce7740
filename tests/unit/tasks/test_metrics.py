"""What is measured on a network, and that measuring leaves it alone."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from prune_search.recipe.axes import METRICS
from prune_search.tasks.data import Split
from prune_search.tasks.metrics import Measured, evaluate


class Table(nn.Module):
    """Looks its scores up: input i has the i-th row."""

    def __init__(self, rows: list[list[float]]) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows))

    def forward(self, x: Tensor) -> Tensor:
        return self.rows[x[:, 0].long()]


def numbered(labels: list[int]) -> Split:
    return Split(torch.arange(float(len(labels))).reshape(-1, 1), torch.tensor(labels))


def test_accuracy_and_loss_are_those_computed_by_hand() -> None:
    model = Table([[0.0, 0.0], [math.log(3), 0.0], [0.0, math.log(7)], [0.0, math.log(7)]])
    measured = evaluate(model, numbered([0, 0, 0, 1]))
    # Of equal scores the first class counts; probabilities of the labels: 1/2, 3/4, 1/8, 7/8.
    assert measured["accuracy"] == 0.75
    assert measured["loss"] == pytest.approx(-math.log(1 / 2 * 3 / 4 * 1 / 8 * 7 / 8) / 4, rel=1e-6)


@pytest.mark.parametrize("batch", [1, 3, 7, 1000])
def test_the_batch_does_not_matter(batch: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3))
    split = Split(torch.randn(20, 4), torch.arange(20) % 3)
    whole, parts = evaluate(model, split, batch=20), evaluate(model, split, batch=batch)
    assert parts["accuracy"] == whole["accuracy"]
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-5)


def test_evaluating_changes_nothing_and_draws_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3))
    model.train()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    evaluate(model, Split(torch.randn(20, 4, generator=torch.Generator().manual_seed(1)), torch.arange(20) % 3))
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_modes_are_restored_after_an_error() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    model[0].eval()
    with pytest.raises(RuntimeError):
        evaluate(model, Split(torch.zeros(2, 5), torch.zeros(2, dtype=torch.long)))
    assert [module.training for module in model.modules()] == [True, False, True]


def test_scores_that_are_not_finite_give_a_loss_that_says_so() -> None:
    assert math.isnan(evaluate(Table([[math.nan, 0.0]]), numbered([0]))["loss"])


def test_the_forward_passes_run_in_the_given_context() -> None:
    seen = []

    class Seen(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            scores = x @ torch.eye(2)
            seen.append(scores.dtype)
            return scores

    split = Split(torch.tensor([[10.0, 0.0], [0.0, 10.0]]), torch.tensor([0, 1]))
    measured = evaluate(Seen(), split, autocast=lambda: torch.autocast("cpu", dtype=torch.bfloat16))
    assert seen == [torch.bfloat16]
    assert measured["accuracy"] == 1.0
    # In bfloat16 this loss would have two digits.
    assert measured["loss"] == pytest.approx(math.log1p(math.exp(-10)), rel=1e-3)


MEASURED = Measured(
    scores={
        "train": {"accuracy": 1.0, "loss": 0.25},
        "validation": {"accuracy": 0.5, "loss": 1.25},
        "test": {"accuracy": 0.75, "loss": 0.5},
    },
    kept={"fc1.weight": 5, "fc2.weight": 0, "fc3.weight": 5},
    total={"fc1.weight": 30, "fc2.weight": 4, "fc3.weight": 6},
    steps_trained=1200,
)


@pytest.mark.parametrize(
    ("name", "value", "best", "split"),
    [
        ("train/accuracy", 1.0, "maximize", "train"),
        ("train/loss", 0.25, "minimize", "train"),
        ("val/accuracy", 0.5, "maximize", "validation"),
        ("val/loss", 1.25, "minimize", "validation"),
        ("test/accuracy", 0.75, "maximize", "test"),
        ("test/loss", 0.5, "minimize", "test"),
        ("sparsity", 0.75, "maximize", ""),
        ("collapsed", 1.0, "minimize", ""),
        ("steps_trained", 1200.0, "minimize", ""),
    ],
)
def test_every_metric_reads_its_figure(name: str, value: float, best: str, split: str) -> None:
    entry = METRICS[name]
    assert entry.make(MEASURED) == value
    assert (entry.facts.best, entry.facts.split) == (best, split)


def test_a_dense_network_has_no_sparsity() -> None:
    assert METRICS["sparsity"].make(Measured(kept={"a": 7}, total={"a": 7})) == 0.0
    assert METRICS["sparsity"].make(Measured()) == 0.0


def test_the_lists_of_data_sets_models_and_metrics_import_no_torch() -> None:
    code = (
        "import sys; from prune_search.recipe.axes import DATASETS, METRICS, MODELS; "
        "names = [*DATASETS, *METRICS, *MODELS]; "
        "sys.exit(str(sorted({'torch', 'numpy', 'sklearn'} & set(sys.modules))) if {'torch', 'numpy', 'sklearn'} "
        "& set(sys.modules) or 'digits' not in names or 'mlp' not in names or 'val/loss' not in names else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
