"""Learning-rate schedules as pure functions of the step. No torch, no state.

An entry makes, from the base rate and the clock, the function ``rate(t)``: the rate of the update from w(t) to w(t+1),
t = 0 … total - 1. Past the end it stays where it is. The options arrive as the canonical recipe writes them, places and
lengths as text ("75%"), and are resolved here, on the clock of the phase that trains.

Every schedule takes ``warmup``: over its length the rate is multiplied by (t + 1) / warmup. The body is not moved: a
drop at 50% is at 50% of the clock, warmed up or not.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

from prune_search.recipe.axes import SCHEDULES
from prune_search.recipe.fields import ClockStep, Length, ListOf, Number
from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.recipe.registry import Option
from prune_search.recipe.step import Step

Rate = Callable[[int], float]

_WARMUP = Option(Length(), "0it", "length of the linear warm-up to the rate of the schedule")


@SCHEDULES.register("constant", summary="constant base rate", source="common practice", options={"warmup": _WARMUP})
def constant(base: float, total: int, epoch: int, *, warmup: str = "0it") -> Rate:
    """The rate `base` at every step.

    Args:
        base: the optimizer's rate.
        total: iterations of the clock.
        epoch: iterations in an epoch.
        warmup: a length.

    Raises:
        UserError: the warm-up is longer than the clock.
    """
    return _warmed(lambda step: base, warmup, total, epoch)


@SCHEDULES.register(
    "step",
    summary="drops at given steps, by a factor or to given rates",
    source="common practice",
    options={
        "at": Option(ListOf(ClockStep(), least=1), ["50%", "75%"], "steps at which the rate drops"),
        "factor": Option(Number(0.0, 1.0, above=True), 0.1, "factor of each drop; ignored if rates is given"),
        "rates": Option(
            ListOf(Number(0.0), least=2), None, "explicit rates instead of a factor, one more than the steps in at"
        ),
        "warmup": _WARMUP,
    },
)
def step_decay(
    base: float,
    total: int,
    epoch: int,
    *,
    at: Sequence[str] = ("50%", "75%"),
    factor: float = 0.1,
    rates: Sequence[float] | None = None,
    warmup: str = "0it",
) -> Rate:
    """A rate that is constant between places: ``base * factor ** n`` after n drops, or ``rates[n]``.

    The update from w(t) to w(t+1) already has the lower rate where t is the place. `factor` always stands in the
    canonical form, with its default too, and is ignored where `rates` is given; so is `base`.

    Args:
        base: the optimizer's rate.
        total: iterations of the clock.
        epoch: iterations in an epoch.
        at: places, in their order.
        factor: above 0, at most 1.
        rates: at least 0; one more than there are places.
        warmup: a length.

    Raises:
        UserError: a place is before the beginning or before the one that it follows, or the number of rates does not
            fit.

    Example:
        With base 0.1, total 4 and the defaults the rates are 0.1, 0.1, 0.01, 0.001.
    """
    # A place past the end is never reached: a shorter phase keeps the first rates.
    places = [_on_clock(text, f"at.{index}", total, epoch, past_end=True) for index, text in enumerate(at)]
    for index in range(1, len(places)):
        if places[index] < places[index - 1]:
            raise _refused(
                f"at.{index}", f"{shown(at[index])} comes before {shown(at[index - 1])}; they must be in order"
            )
    if rates is not None and len(rates) != len(places) + 1:
        raise _refused("rates", f"must hold {len(places) + 1} rates, one more than places (got {len(rates)})")
    levels = list(rates) if rates is not None else [base * factor**drops for drops in range(len(places) + 1)]
    return _warmed(lambda step: levels[bisect_right(places, step)], warmup, total, epoch)


@SCHEDULES.register(
    "cosine",
    summary="half a cosine from the base rate to a floor",
    source="Loshchilov, Hutter 2016, arXiv 1608.03983, eq. 5, without restarts",
    options={
        "floor": Option(Number(0.0, 1.0), 0.0, "rate at the end, as a fraction of the base rate"),
        "warmup": _WARMUP,
    },
)
def cosine(base: float, total: int, epoch: int, *, floor: float = 0.0, warmup: str = "0it") -> Rate:
    """``base * (floor + (1 - floor) * (1 + cos(pi * t / total)) / 2)``.

    The floor is reached at t = total, one step after the last update, as in the paper.

    Args:
        base: the optimizer's rate.
        total: iterations of the clock.
        epoch: iterations in an epoch.
        floor: a fraction of `base`, 0 … 1.
        warmup: a length.

    Raises:
        UserError: the warm-up is longer than the clock.
    """
    return _warmed(lambda step: base * _blend(1.0, floor, step, total), warmup, total, epoch)


@SCHEDULES.register(
    "one-cycle",
    summary="rises to the base rate, then falls below the initial rate",
    source="Smith, Topin 2017, arXiv 1708.07120; with cosines instead of lines, as is common",
    options={
        "peak": Option(ClockStep(), "30%", "step at which the base rate is reached"),
        "start": Option(Number(0.0, 1.0), 0.04, "first rate, as a fraction of the base rate"),
        "final": Option(Number(0.0, 1.0), 1e-4, "last rate, as a fraction of the base rate"),
        "warmup": _WARMUP,
    },
)
def one_cycle(
    base: float,
    total: int,
    epoch: int,
    *,
    peak: str = "30%",
    start: float = 0.04,
    final: float = 1e-4,
    warmup: str = "0it",
) -> Rate:
    """From ``start * base`` at t = 0 to `base` at the peak to ``final * base`` at t = total - 1, by half cosines.

    Args:
        base: the optimizer's rate, the highest.
        total: iterations of the clock.
        epoch: iterations in an epoch.
        peak: a place.
        start: a fraction of `base`, 0 … 1.
        final: a fraction of `base`, 0 … 1.
        warmup: a length.

    Raises:
        UserError: the peak is off the clock, or the warm-up is longer than it.
    """
    top = _on_clock(peak, "peak", total, epoch)

    def rate(step: int) -> float:
        rising = step < top
        return base * (_blend(start, 1.0, step, top) if rising else _blend(1.0, final, step - top, total - 1 - top))

    return _warmed(rate, warmup, total, epoch)


def final_rate(rate: Rate, total: int) -> float:
    """The rate of the last update of a clock of `total` iterations: what ``{hold: final}`` holds."""
    return rate(max(total - 1, 0))


def _blend(first: float, last: float, step: int, length: int) -> float:
    """Half a cosine from `first` at step 0 to `last` at step `length` and after."""
    progress = min(step / length, 1.0) if length > 0 else float(step > 0)
    return last + (first - last) * (1.0 + math.cos(math.pi * progress)) / 2.0


def _warmed(body: Rate, warmup: str, total: int, epoch: int) -> Rate:
    length = _on_clock(warmup, "warmup", total, epoch)
    if length == 0:
        return body
    return lambda step: body(step) * min(1.0, (step + 1) / length)


def _on_clock(text: str, path: str, total: int, epoch: int, past_end: bool = False) -> int:
    """A written step in iterations, which must lie in 0 … total, or anywhere from 0 on."""
    iteration = Step.parse(text).resolve(total, epoch)
    if iteration >= 0 and (past_end or iteration <= total):
        return iteration
    side = "before the beginning" if iteration < 0 else "past the end"
    raise _refused(path, f"{shown(text)} is iteration {iteration}, {side} of a clock of {total} iterations")


def _refused(path: str, message: str) -> UserError:
    return UserError([Problem(path, message, form=False)])
