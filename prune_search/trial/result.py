"""The result of a trial: plain data and tensors. Importing it imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from prune_search.pruning.mask.mask_set import MaskSet
    from prune_search.pruning.mask.receipt import Receipt
    from prune_search.recipe.recipe import Recipe

# Of a network of which layers were fused: what its number of parameters was, and is.
SIZES = ("before", "after")


@dataclass(frozen=True)
class RoundResult:
    """What one round reached.

    Attributes:
        number: r, from 1.
        receipt: asked and reached.
        mask_sha256: digest of the mask.
        metrics: measured after the round's retraining, never on test data.
        found_at: k1 in iterations, where the recipe leaves it to be found; else None.
    """

    number: int
    receipt: Receipt
    mask_sha256: str
    metrics: Mapping[str, float]
    found_at: int | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """A trial that was run to its end.

    Attributes:
        recipe: what was run.
        key: its content address.
        paradigm: the name of the preset that it equals, or ``custom k1→k2``.
        masks: the final mask.
        tensors: the final weights and buffers by name, on the CPU.
        weights_sha256: digest of them.
        rounds: every round's receipt and metrics.
        test_metrics: of the final network on test data; empty where it is not measured on them.
        environment: the environment class.
        steps: trained (replayed ones too), reused, replayed: trained + reused = asked for + replayed.
        steps_repeated: of the trained ones, those that another run trained at the same time.
        seconds: wall time.
        preset: the name that the user typed, or None.
        inputs: the ``shape`` of an example and the number of ``classes``, with which the network is built again;
            ``digest_of``: what the data's digest has looked at, where that is not every byte.
        waited_s: seconds of them in which steps waited for data.
        initializer: what the initializer found, as plain data; empty of one that finds nothing.
    """

    recipe: Recipe
    key: str
    paradigm: str
    masks: MaskSet
    tensors: Mapping[str, Tensor]
    weights_sha256: str
    rounds: tuple[RoundResult, ...]
    test_metrics: Mapping[str, float]
    environment: Mapping[str, Any]
    steps: tuple[int, int, int]
    seconds: float
    preset: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    steps_repeated: int = 0
    inputs: Mapping[str, Any] = field(default_factory=dict)
    waited_s: float = 0.0
    initializer: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """In one line, without the tensors."""
        figures = "".join(
            f", {name} {value:.4g}" for name, value in self.metrics.items() if name.startswith(("val/", "test/"))
        )
        return f"Result({self.paradigm}, key {self.key[:16]}, sparsity {self.receipt.reached:.4f}{figures})"

    @property
    def metrics(self) -> Mapping[str, float]:
        """Of the final network: what was measured after the last round, and on test data."""
        return {**self.rounds[-1].metrics, **self.test_metrics}

    @property
    def receipt(self) -> Receipt:
        """Asked and reached at the end."""
        return self.rounds[-1].receipt

    def as_data(self) -> dict[str, Any]:
        """The object that ``run --json`` prints and metrics.json holds."""
        receipt = self.receipt
        return {
            "key": self.key,
            "preset": self.preset,
            "paradigm": self.paradigm,
            "mask_sha256": self.masks.sha256,
            "weights_sha256": self.weights_sha256,
            "environment": dict(self.environment),
            "sparsity": {"asked": receipt.asked, "reached": receipt.reached, **_of_all(receipt)},
            "left_out": [vars(one) for one in receipt.left_out],
            "layers": [
                {"name": layer.name, "total": layer.total, "kept": layer.kept, **_units(layer.units, layer.units_kept)}
                | ({"fused_into": layer.fused_into} if layer.fused_into else {})
                for layer in receipt.layers
            ],
            "collapsed": receipt.collapsed,
            **({"blocks": receipt.blocks} if receipt.blocks else {}),
            **({"search": finite(receipt.search)} if receipt.search else {}),
            **({} if receipt.parameters is None else {"parameters": dict(zip(SIZES, receipt.parameters, strict=True))}),
            "metrics": finite(self.metrics),
            "rounds": [
                {
                    "round": item.number,
                    "sparsity": {"asked": item.receipt.asked, "reached": item.receipt.reached},
                    "collapsed": item.receipt.collapsed,
                    "mask_sha256": item.mask_sha256,
                    "metrics": finite(item.metrics),
                    **({} if item.found_at is None else {"found_at": item.found_at}),
                }
                for item in self.rounds
            ],
            "steps_trained": self.steps[0],
            "steps_reused": self.steps[1],
            "steps_replayed": self.steps[2],
            "steps_repeated": self.steps_repeated,
            "digests": dict(self.digests),
            **({"inputs": dict(self.inputs)} if self.inputs else {}),
            **({"initializer": dict(self.initializer)} if self.initializer else {}),
            "seconds": round(self.seconds, 3),
            **({"seconds_waiting": round(self.waited_s, 3)} if self.waited_s else {}),
        }


def _of_all(receipt: Receipt) -> dict[str, float]:
    share = receipt.sparsity_of_all_parameters
    return {} if share is None else {"of_all_parameters": share}


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Metrics as JSON can say them: what is no finite number is null."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _units(units: int, kept: int) -> dict[str, int]:
    return {"units": units, "units_kept": kept}
