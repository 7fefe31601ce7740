"""Steps and lengths on the training clock, as written in a recipe.

``3ep``, ``120it``, ``3ep20it`` and ``5%`` (of the clock's total) count from its beginning, ``end`` is its end, and
``end-3ep`` counts back from there. An epoch is ⌊training examples / batch⌋ iterations.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

MAX_EPOCHS = 1_000_000
MAX_ITERATIONS = 1_000_000_000

# Forty digits are read, so that an absurd length is called too long and not unreadable.
_COUNT = re.compile(r"(?:(?P<epochs>[0-9]{1,40})ep)?(?:(?P<iterations>[0-9]{1,40})it)?", re.ASCII)
_PERCENT = re.compile(r"(?P<percent>[0-9]{1,40}(?:\.[0-9]{1,9})?)%", re.ASCII)

StepClass = Literal["start", "between", "end"]


@dataclass(frozen=True)
class Step:
    """A place on a training clock, or a length of training.

    Attributes:
        epochs: whole epochs.
        iterations: iterations beyond those epochs.
        percent: a share of the clock's total in percent, instead of the two.
        back: counted back from the end.

    Example:
        >>> Step.parse("end-3ep").resolve(total=1000, epoch=100)
        700
    """

    epochs: int = 0
    iterations: int = 0
    percent: Decimal | None = None
    back: bool = False
    unit: Literal["it", "ep", "epit", "%", "end"] = "it"

    @classmethod
    def parse(cls, text: str) -> Step:
        """Read a written step.

        Raises:
            ValueError: with what is wrong, for anything that is no step or is absurdly long.
        """
        return _parsed(text)

    def __str__(self) -> str:
        if self.unit == "end":
            return "end"
        amount = {
            "it": f"{self.iterations}it",
            "ep": f"{self.epochs}ep",
            "epit": f"{self.epochs}ep{self.iterations}it",
            "%": f"{self.percent:f}%" if self.percent is not None else "",
        }[self.unit]
        return f"end-{amount}" if self.back else amount

    def resolve(self, total: int, epoch: int) -> int:
        """This step in iterations.

        Args:
            total: iterations of the clock (K, or a phase's own number of steps).
            epoch: iterations in an epoch.

        Returns:
            The iteration; it can be negative or past the end, which the caller refuses by name.
            A percentage is rounded half up.
        """
        if self.percent is not None:
            exact = Decimal(total) * self.percent / 100
            amount = int(exact.to_integral_value(rounding=ROUND_HALF_UP))
        else:
            amount = self.epochs * epoch + self.iterations
        return total - amount if self.back else amount

    @property
    def relative(self) -> bool:
        """Whether it needs the clock's total to be resolved."""
        return self.back or self.percent is not None

    def place(self, total: Step) -> StepClass:
        """Whether this is the start, the end, or something between on a clock that is `total` long."""
        amount = self.percent if self.percent is not None else self.epochs + self.iterations
        whole = (self.epochs, self.iterations, self.percent) == (total.epochs, total.iterations, total.percent)
        if not amount:
            return "end" if self.back else "start"
        if whole or self.percent == 100:
            return "start" if self.back else "end"
        return "between"


def as_iterations(iterations: int) -> Step:
    """A step of so many iterations."""
    return Step(iterations=iterations)


# A space is looked at in hundreds of draws, whose steps are mostly the same few.
@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> Step:
    if text == "end":
        return Step(back=True, unit="end")
    back = text.startswith("end-")
    body = text.removeprefix("end-")
    if match := _PERCENT.fullmatch(body):
        percent = Decimal(match["percent"]).normalize()
        if percent > 100:
            raise ValueError("is over 100%")
        return Step(percent=percent, back=back, unit="%")
    match = _COUNT.fullmatch(body)
    if not body or match is None:
        raise ValueError("is not a step: write 3ep, 120it, 3ep20it, 5%, end or end-3ep")
    epochs, iterations = int(match["epochs"] or 0), int(match["iterations"] or 0)
    if epochs > MAX_EPOCHS or iterations > MAX_ITERATIONS:
        raise ValueError(f"is too long: at most {MAX_EPOCHS}ep and {MAX_ITERATIONS}it")
    unit: Literal["it", "ep", "epit"] = (
        "epit" if match["epochs"] and match["iterations"] else "ep" if match["epochs"] else "it"
    )
    return Step(epochs=epochs, iterations=iterations, back=back, unit=unit)


# The end of the clock.
END = Step.parse("end")
