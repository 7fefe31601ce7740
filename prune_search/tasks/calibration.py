"""Metrics of calibration that any search over classes can name: ``val/nll``, ``val/ece``, ``val/brier``.

They are taken only where they are asked for, in one pass over the split for all three.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import METRICS, TASK_METRICS
from prune_search.recipe.facts import Metric
from prune_search.tasks.metrics import Figures, Measured

if TYPE_CHECKING:
    from prune_search.tasks.tallies import Tally

NAMES = ("nll", "ece", "brier")
# Examples at a time: of arrays, and of a task that does not say it.
BATCH, TASK_BATCH = 1000, 64
# Of the measurement: a change of what it means makes it be taken anew.
FORMAT = 1


def calibration(measured: Measured, split: str) -> Figures:
    """``nll``, ``ece`` and ``brier`` of a network on a split, measured once per network.

    Args:
        measured: with the network and the data.
        split: ``validation`` or ``test``.

    Raises:
        UserError: the targets are no classes.
        ValueError: the network or the data were not given.
    """
    data = measured.data
    if data is None:
        raise ValueError("this metric needs the data, which were not given")
    what = {"kind": "calibration", "format": FORMAT, "split": split, "data": data.digest}
    return measured.take(what, lambda: _measure(measured, split))


def _measure(measured: Measured, split: str) -> Figures:
    from prune_search.tasks.data import DataSet
    from prune_search.tasks.passes import evaluating
    from prune_search.tasks.tallies import Seen

    data, model = measured.data, measured.model
    if data is None or model is None:
        raise ValueError("this metric needs the network and the data, which were not given")
    examples: Any = data.split(split)
    tallies: dict[str, Any] = {name: _tally(name, data.target, data.classes) for name in NAMES}
    batch = BATCH if isinstance(data, DataSet) else data.task.evaluate_batch or TASK_BATCH
    with evaluating(model):
        for whole in examples.parts(batch):
            if isinstance(data, DataSet):
                seen = Seen(model(whole[0]), whole, whole[1], len(whole[1]), float("nan"))
            else:
                seen = data.seen(model, whole)
            for tally in tallies.values():
                tally.update(seen)
    return {name: tally.value() for name, tally in tallies.items()}


def _tally(name: str, target: str, classes: int) -> Tally:
    made: Any = TASK_METRICS[name].make(target, classes)
    return made  # type: ignore[no-any-return]


def _figure(name: str) -> Callable[[Measured], float]:
    def figure(measured: Measured) -> float:
        """See the task metric of the same name."""
        known = measured.scores.get("validation", {})
        return known[name] if name in known else calibration(measured, "validation")[name]

    return figure


for _name, _said in (
    ("nll", "mean negative log-likelihood of the validation examples' classes, in nats"),
    ("ece", "expected calibration error on the validation examples in 15 bins, 0…1"),
    ("brier", "Brier score on the validation examples: mean of Σ_c (p_c - y_c)², 0…2"),
):
    METRICS.register(
        f"val/{_name}",
        summary=_said,
        source="Guo et al. 2017, 1706.04599; Brier 1950; see the task metrics nll, ece and brier",
        facts=Metric(best="minimize", split="validation", always=False, needs_classes=True),
    )(_figure(_name))
