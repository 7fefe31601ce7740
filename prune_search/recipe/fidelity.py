"""Low fidelities: cheaper recipes that stand in for a recipe, by shorter training or fewer rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prune_search.recipe.fields import Number, read_block
from prune_search.recipe.plain_data import Plain
from prune_search.recipe.problems import UserError, shown
from prune_search.recipe.reading import Reading
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.registry import Option
from prune_search.recipe.step import Step

_SHARE = Number(0.0, 1.0, above=True, below=True)
FIDELITY = {
    "steps": Option(_SHARE, None, "factor of every length of training: K, the retraining, and the places on the clock"),
    "rounds": Option(_SHARE, None, "factor of the number of rounds"),
}
# The blocks in which lengths and places stand.
TIMED = ("train", "mask", "weights", "retrain")


@dataclass(frozen=True)
class FidelityField:
    """``{steps: F}``, ``{rounds: F}`` or both, with F above 0 and below 1."""

    def describe(self) -> str:
        return "a mapping such as {steps: 0.25} or {rounds: 0.5}, with factors > 0 and < 1"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        if not isinstance(raw, Mapping) or not raw:
            return reading.wrong(path, f"must be {self.describe()} (got {shown(raw)})")
        return read_block(FIDELITY, raw, path, reading)


@dataclass(frozen=True)
class Fidelity:
    """A way to make recipes cheaper. The cheaper recipe is a recipe like any other, with a key and a price of its own.

    Attributes:
        steps: factor of every length that is written in epochs or iterations, above 0 and below 1; 1 leaves them.
        rounds: factor of the rounds, likewise; at least one round is left.
    """

    steps: float = 1.0
    rounds: float = 1.0

    @classmethod
    def of(cls, written: Mapping[str, float]) -> Fidelity:
        """From the canonical form."""
        return cls(**written)

    @property
    def label(self) -> str:
        """For people, and in records: ``steps 0.25``."""
        parts = {"steps": self.steps, "rounds": self.rounds}
        return ", ".join(f"{name} {factor:g}" for name, factor in parts.items() if factor != 1.0)

    def of_recipe(self, recipe: Recipe, epoch: int) -> Recipe | None:
        """The cheaper recipe; None where it is the same, or where no such recipe is possible.

        With ``steps`` everything is shortened in proportion, so that places keep their shares of the clock: K, the
        retraining, k1, k2, the clock, schedules, warm-ups and what dynamics count in steps. Shares (``25%``) and
        ``end`` need no change. A length that is not zero stays at least one iteration. The task stays as it is.

        Args:
            recipe: canonical.
            epoch: iterations in an epoch.
        """
        blocks: dict[str, Any] = dict(recipe.blocks)
        if self.steps != 1.0:
            blocks |= {name: _shortened(blocks[name], self.steps, epoch) for name in TIMED}
        blocks["rounds"] = max(1, int(recipe.rounds * self.rounds + 0.5))
        if blocks == dict(recipe.blocks):
            return None
        try:
            return Recipe.read(blocks)
        except UserError:
            # Such as one round of a preset that needs two.
            return None


def fidelities_of(search: Mapping[str, Any]) -> tuple[Fidelity, ...]:
    """Those of a canonical search block; none where it has no ``fidelity``."""
    return tuple(Fidelity.of(written) for written in search.get("fidelity") or ())


def _shortened(node: Plain, factor: float, epoch: int) -> Plain:
    if isinstance(node, Mapping):
        return {key: _shortened(value, factor, epoch) for key, value in node.items()}
    if isinstance(node, list):
        return [_shortened(value, factor, epoch) for value in node]
    return _shorter(node, factor, epoch) if isinstance(node, str) else node


def _shorter(text: str, factor: float, epoch: int) -> str:
    """A written length or place; any other text is left as it is."""
    try:
        step = Step.parse(text)
    except ValueError:
        return text
    amount = step.epochs * epoch + step.iterations
    if step.unit in ("%", "end") or not amount:
        return text
    return f"{'end-' if step.back else ''}{max(1, int(amount * factor + 0.5))}it"
