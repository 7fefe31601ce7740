"""Holes: what a draw of each kind is asked for and becomes, what the sampler calls it, and what is no hole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from prune_search.recipe.holes import choice_labels
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.space import Drawn, Space, inspect, read_space
from prune_search.recipe.strict_yaml import load

SNIP = "preset: snip\ntask: {data: fashion-mnist}\n"


def space(text: str) -> Space:
    found, problems = inspect(load(text, mapping=True), "file")
    assert [str(problem) for problem in problems if problem.form] == []
    assert found is not None
    return found


def errors(text: str) -> list[Problem]:
    with pytest.raises(UserError) as caught:
        read_space(load(text, mapping=True), "file")
    problems = list(caught.value.problems)
    assert all(problem.source == "file" for problem in problems)
    return problems


@dataclass
class Given:
    """Draws what it is told to: a share of each range, or the index of an option; remembers how it was asked."""

    share: float = 0.0
    options: dict[str, int] = field(default_factory=dict)
    asked: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def choice(self, name: str, labels: tuple[str, ...]) -> int:
        self.asked[name] = ("choice", *labels)
        return self.options.get(name, 0)

    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float:
        self.asked[name] = ("uniform", low, high, log, step)
        return low + self.share * (high - low)

    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int:
        self.asked[name] = ("integer", low, high, log, step)
        return round(low + self.share * (high - low))


def drawn(text: str, share: float = 0.0, **options: int) -> tuple[Drawn, dict[str, tuple[Any, ...]]]:
    draw = Given(share, {name.replace("__", "."): index for name, index in options.items()})
    return space(text).fill(draw), draw.asked


# --- what a hole asks for -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "hole", "asked", "value"),
    [
        ("mask.sparsity", "{hole: uniform, low: 0.1, high: 0.9}", ("uniform", 0.1, 0.9, False, None), 0.5),
        ("mask.sparsity", "{hole: uniform, low: 0, high: 0.8, step: 0.1}", ("uniform", 0.0, 0.8, False, 0.1), 0.4),
        ("train.optimizer.lr", "{hole: loguniform, low: 0.25, high: 1}", ("uniform", 0.25, 1.0, True, None), 0.625),
        ("train.batch", "{hole: int, low: 32, high: 128}", ("integer", 32, 128, False, 1), 80),
        ("train.batch", "{hole: int, low: 32, high: 128, step: 32}", ("integer", 32, 128, False, 32), 80),
        ("train.batch", "{hole: int, low: 32, high: 128, log: true}", ("integer", 32, 128, True, 1), 80),
        ("train.batch", "{hole: int, low: 32, high: 128, log: false}", ("integer", 32, 128, False, 1), 80),
        ("rounds", "{hole: int, low: 1, high: 1}", ("integer", 1, 1, False, 1), 1),
        # Steps, in each unit: an epoch of fashion-mnist is 429 iterations.
        ("train.steps", "{hole: int, low: 5ep, high: 15ep}", ("integer", 5, 15, False, 1), "10ep"),
        ("train.steps", "{hole: int, low: 5ep, high: 15ep, step: 5}", ("integer", 5, 15, False, 5), "10ep"),
        ("train.steps", "{hole: uniform, low: 5ep, high: 10ep}", ("uniform", 5.0, 10.0, False, None), "7ep215it"),
        ("train.steps", "{hole: uniform, low: 5ep, high: 15ep}", ("uniform", 5.0, 15.0, False, None), "10ep"),
        ("train.steps", "{hole: uniform, low: 0ep, high: 1ep}", ("uniform", 0.0, 1.0, False, None), "214it"),
        ("train.steps", "{hole: loguniform, low: 1ep, high: 9ep}", ("uniform", 1.0, 9.0, True, None), "5ep"),
        ("train.steps", "{hole: uniform, low: 500it, high: 1500it}", ("integer", 500, 1500, False, 1), "1000it"),
        (
            "train.steps",
            "{hole: uniform, low: 0it, high: 1000it, step: 100}",
            ("integer", 0, 1000, False, 100),
            "500it",
        ),
        ("train.steps", "{hole: loguniform, low: 10it, high: 1000it}", ("integer", 10, 1000, True, 1), "505it"),
        ("train.steps", "{hole: uniform, low: 1ep71it, high: 1ep571it}", ("integer", 500, 1000, False, 1), "750it"),
        ("train.steps", "{hole: int, low: 71it, high: 1ep71it}", ("integer", 71, 500, False, 1), "286it"),
        ("weights.at", "{hole: uniform, low: 0%, high: 25%}", ("uniform", 0.0, 25.0, False, None), "12.5%"),
        ("weights.at", "{hole: int, low: 0%, high: 50%}", ("integer", 0, 50, False, 1), "25%"),
        ("weights.at", "{hole: uniform, low: 0.1%, high: 0.2%}", ("uniform", 0.1, 0.2, False, None), "0.15%"),
        ("weights.at", "{hole: int, low: end-5ep, high: end-1ep}", ("integer", 1, 5, False, 1), "end-3ep"),
        ("weights.at", "{hole: uniform, low: end-20%, high: end-10%}", ("uniform", 10.0, 20.0, False, None), "end-15%"),
        (
            "weights.at",
            "{hole: uniform, low: end-300it, high: end-100it}",
            ("integer", 100, 300, False, 1),
            "end-200it",
        ),
        # The end is no steps back in the unit of the other bound.
        ("weights.at", "{hole: int, low: end-4ep, high: end}", ("integer", 0, 4, False, 1), "end-2ep"),
        ("weights.at", "{hole: uniform, low: end-10%, high: end}", ("uniform", 0.0, 10.0, False, None), "end-5%"),
    ],
)
def test_a_hole_is_drawn_like_this(key: str, hole: str, asked: tuple[Any, ...], value: Any) -> None:
    block, _, name = key.partition(".")
    inner = f"{{{name}: {hole}}}" if name and "." not in name else hole
    if "." in name:
        first, second = name.split(".")
        inner = f"{{{first}: {{{second}: {hole}}}}}"
    # The retraining has a rate of its own, so that the weights can be taken anywhere.
    retrain = "{steps: 1ep, clock: {hold: 0.1}}"
    point, how = drawn(f"{SNIP}{block}: {inner}\nretrain: {retrain}\n", share=0.5)
    assert how == {key: asked}
    assert point.params == {key: value}
    node: Any = point.raw
    for part in key.split("."):
        node = node[part]
    assert node == value


@pytest.mark.parametrize("hole", ["{hole: int, low: end-4ep, high: end}", "{hole: uniform, low: end-9%, high: end}"])
def test_no_step_back_from_the_end_is_the_end(hole: str) -> None:
    point, _ = drawn(f"{SNIP}weights: {{at: {hole}}}\nretrain: {{steps: 1ep, clock: {{hold: 0.1}}}}", share=0.0)
    assert point.params == {"weights.at": "end"}
    assert str(point.recipe().weights.at) == "end"


@pytest.mark.parametrize(
    ("task", "batch", "steps"),
    [
        ("fashion-mnist", 128, "2ep215it"),
        ("fashion-mnist", 64, "2ep430it"),
        ("digits", 128, "2ep5it"),
        ("my.code:data", 128, "2ep50it"),
    ],
)
@pytest.mark.parametrize("batch_is_a_hole", [False, True])
def test_a_draw_between_epochs_is_rounded_to_an_iteration_of_the_drawn_batch(
    task: str, batch: int, steps: str, batch_is_a_hole: bool
) -> None:
    written = f"{{hole: choice, of: [1, {batch}]}}" if batch_is_a_hole else batch
    steps_hole = "{hole: uniform, low: 2ep, high: 3ep}"
    text = f"preset: snip\ntrain: {{steps: {steps_hole}, batch: {written}}}\ntask: {{data: '{task}'}}"
    point, _ = drawn(text, share=0.501, train__batch=1)
    assert point.params["train.steps"] == steps
    given = space(text).fill(Given(0.5, {"train.batch": 1}), epoch=1000)
    assert given.params["train.steps"] == "2ep500it"
    if ":" in task:
        known = space(text).fill(Given(0.5, {"train.batch": 1}), examples=1280)
        assert known.params["train.steps"] == "2ep5it"


def test_a_whole_block_that_is_chosen_settles_the_epoch_too() -> None:
    text = SNIP + "train: {hole: choice, of: [{steps: {hole: uniform, low: 2ep, high: 3ep}, batch: 64}]}"
    assert drawn(text, share=0.501)[0].params["train.steps"] == "2ep430it"


# --- names ----------------------------------------------------------------------------------------------------------


def test_inside_an_option_the_sampler_s_name_carries_the_option_and_the_param_does_not() -> None:
    text = (
        SNIP
        + """
train:
  optimizer:
    hole: choice
    of:
      - {name: sgd, lr: {hole: loguniform, low: 0.01, high: 1}}
      - {name: adam, lr: {hole: loguniform, low: 1e-4, high: 0.1}}
"""
    )
    for index, name in enumerate(("sgd", "adam")):
        point, asked = drawn(text, train__optimizer=index)
        assert list(asked) == ["train.optimizer", f"train.optimizer[{name}].lr"]
        assert list(point.params) == ["train.optimizer", "train.optimizer.lr"]
        assert point.params["train.optimizer"] == name
        assert point.recipe().train.optimizer.name == name


def test_a_choice_inside_a_choice_is_named_by_both() -> None:
    inner = "{hole: choice, of: [0.8, {final: {hole: uniform, low: 0.1, high: 0.2}}]}"
    text = SNIP + f"mask: {{sparsity: {{hole: choice, of: [0.5, {inner}]}}}}"
    draw = Given(0.0, {"mask.sparsity": 1, "mask.sparsity[1-hole-of]": 1})
    point = space(text).fill(draw)
    assert list(draw.asked)[-1] == "mask.sparsity[1-hole-of][1-final].final"
    assert point.params == {"mask.sparsity": "1-final", "mask.sparsity.final": 0.1}


def test_an_option_of_any_is_carried_by_the_holes_that_it_wrote_and_not_by_those_that_all_share() -> None:
    text = """
task: {data: fashion-mnist, seed: {hole: int, low: 0, high: 9}}
mask: {sparsity: {hole: uniform, low: 0.5, high: 0.9}}
any:
  - {preset: snip}
  - {preset: lottery-ticket, rounds: {hole: int, low: 1, high: 3}}
  - {preset: random, mask: {sparsity: {hole: uniform, low: 0.8, high: 0.98}}}
"""
    names = []
    for index in range(3):
        point, asked = drawn(text, any=index)
        names.append([name for name in asked if name != "any"])
        assert point.option == point.params["any"] == ("snip", "lottery-ticket", "random")[index]
        assert "mask.sparsity" in point.params
    assert names == [
        ["task.seed", "mask.sparsity"],
        ["task.seed", "mask.sparsity", "any[lottery-ticket].rounds"],
        ["task.seed", "any[random].mask.sparsity"],
    ]


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ("[0it, end, 5%]", ("0it", "end", "5%")),
        ("[1, 1.5, true, none]", ("1", "1.5", "True", "none")),
        ("[{name: sgd}, {name: sgd, lr: 1}, sgd]", ("sgd", "1-sgd", "2-sgd")),
        ("[{steps: 1ep}, {until: end, clock: 0it}]", ("0-steps", "1-clock-until")),
        ("[[1, 2], [3]]", ("0", "1")),
        ('["a\\nb", "", 2-x, x, x]', ("0", "1", "2-x", "x", "4-x")),
        ("[1-a, a, a, 2-a]", ("1-a", "a", "2-a", "3-2-a")),
    ],
)
def test_every_option_of_a_choice_has_a_label_of_its_own_on_one_line(options: str, labels: tuple[str, ...]) -> None:
    assert choice_labels(load(options)) == labels


def test_long_options_are_cut_and_stay_distinct() -> None:
    labels = choice_labels(["x" * 100, "x" * 200, "x" * 300])
    assert len(set(labels)) == 3
    assert max(map(len, labels)) < 60


# --- blocks -----------------------------------------------------------------------------------------------------------


def test_a_choice_of_whole_blocks_with_holes_in_them() -> None:
    text = SNIP + "retrain: {hole: choice, of: [none, {steps: {hole: int, low: 1ep, high: 3ep}, clock: {hold: 0.1}}]}"
    assert drawn(text, retrain=0)[0].recipe().retrain is None
    point, asked = drawn(text, retrain=1, share=1.0)
    assert asked["retrain[1-clock-steps].steps"] == ("integer", 1, 3, False, 1)
    assert point.params == {"retrain": "1-clock-steps", "retrain.steps": "3ep"}
    assert point.recipe().blocks["retrain"]["steps"] == "3ep"


def test_what_is_drawn_is_written_in_the_order_of_the_file() -> None:
    point, _ = drawn(
        SNIP + "rounds: {hole: int, low: 1, high: 1}\ntrain: {threads: {hole: int, low: 1, high: 2}, batch: 8}"
    )
    assert list(point.raw) == ["mask", "weights", "retrain", "task", "rounds", "train"]
    assert list(point.raw["train"]) == ["threads", "batch"]


# --- holes that are wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hole", "path", "message"),
    [
        (
            "{hole: unifrm, low: 0, high: 1}",
            ".hole",
            "'unifrm' is not one of choice, int, loguniform, uniform (did you",
        ),
        ("{hole: [uniform], low: 0, high: 1}", ".hole", "['uniform'] is not one of choice, int, loguniform, uniform"),
        ("{hole:, low: 0, high: 1}", ".hole", "None is not one of choice, int, loguniform, uniform"),
        (
            "{hole: uniform, lo: 0, low: 0, high: 0.5}",
            ".lo",
            "is not a key of a hole of kind uniform: 'lo' is not one of",
        ),
        (
            "{hole: uniform, of: [1], low: 0, high: 0.5}",
            ".of",
            "is not a key of a hole of kind uniform: 'of' is not one of",
        ),
        ("{hole: loguniform, low: 0.1, high: 0.5, step: 0.1}", ".step", "is not a key of a hole of kind loguniform"),
        ("{hole: choice, of: [0.5], low: 0}", ".low", "is not a key of a hole of kind choice"),
        ("{hole: uniform, high: 0.5}", ".low", "is missing; holes of kind uniform need low and high"),
        ("{hole: uniform, low:, high: 0.5}", ".low", "must be a number ≥ -1e+12 and ≤ 1e+12 (got None)"),
        ("{hole: uniform, low: 0, high: .inf}", ".high", "must be a number ≥ -1e+12 and ≤ 1e+12 (got inf)"),
        ("{hole: uniform, low: .nan, high: 1}", ".low", "must be a number ≥ -1e+12 and ≤ 1e+12 (got nan)"),
        ("{hole: uniform, low: 0, high: 1e309}", ".high", "must be a number ≥ -1e+12 and ≤ 1e+12 (got inf)"),
        ("{hole: uniform, low: x, high: 1}", ".low", "'x' is not a step: write 3ep"),
        (
            "{hole: int, low: 0.5, high: 1}",
            ".low",
            "must be a whole number from -1000000000000 to 1000000000000 (got 0.5)",
        ),
        ("{hole: uniform, low: 0.9, high: 0.1}", "", "low is above high (got 0.9 and 0.1)"),
        ("{hole: uniform, low: 5ep, high: 3ep}", "", "low is above high (got '5ep' and '3ep')"),
        ("{hole: uniform, low: end-1ep, high: end-3ep}", "", "low is above high (got 'end-1ep' and 'end-3ep')"),
        ("{hole: uniform, low: end, high: end-3ep}", "", "low is above high (got 'end' and 'end-3ep')"),
        ("{hole: uniform, low: 3ep, high: 500it}", "", "needs bounds in the same unit (got '3ep' and '500it')"),
        ("{hole: uniform, low: 3ep, high: 50%}", "", "needs bounds in the same unit (got '3ep' and '50%')"),
        ("{hole: uniform, low: 3ep, high: end}", "", "needs bounds in the same unit (got '3ep' and 'end')"),
        ("{hole: uniform, low: end-3ep, high: 5ep}", "", "needs bounds in the same unit (got 'end-3ep' and '5ep')"),
        ("{hole: uniform, low: 0, high: 5ep}", "", "needs bounds in the same unit (got 0 and '5ep')"),
        (
            "{hole: uniform, low: 500it, high: 1ep0it}",
            "",
            "needs bounds whose order does not depend on the length of an epoch",
        ),
        ("{hole: int, low: 1.2%, high: 1.8%}", "", "contains no whole number (got '1.2%' and '1.8%')"),
        ("{hole: loguniform, low: 0, high: 1}", ".low", "must be above 0 on a log scale (got 0 and 1)"),
        ("{hole: int, low: 0, high: 1, log: true}", ".low", "must be above 0 on a log scale (got 0 and 1)"),
        ("{hole: int, low: 1, high: 9, log: yes}", ".log", "must be true or false (got 'yes')"),
        ("{hole: int, low: 1, high: 9, log: true, step: 2}", ".step", "cannot be combined with log"),
        ("{hole: int, low: 1, high: 9, step: 0}", ".step", "must be a whole number from 1 to 1000000000 (got 0)"),
        ("{hole: int, low: 1, high: 9, step: 0.5}", ".step", "must be a whole number from 1 to 1000000000 (got 0.5)"),
        (
            "{hole: uniform, low: 1it, high: 9it, step: 0.5}",
            ".step",
            "must be a whole number from 1 to 1000000000 (got 0.5)",
        ),
        ("{hole: uniform, low: 0, high: 9, step: 0}", ".step", "must be a number > 0 and ≤ 1e+12 (got 0)"),
        ("{hole: uniform, low: 0, high: 9, step:}", ".step", "must be a number > 0 and ≤ 1e+12 (got None)"),
        ("{hole: choice}", ".of", "must be a list of 1 to 1000 values (got None)"),
        ("{hole: choice, of: []}", ".of", "must be a list of 1 to 1000 values (got [])"),
        ("{hole: choice, of: {a: 1}}", ".of", "must be a list of 1 to 1000 values (got {'a': 1})"),
        ("{hole: choice, of: [{hole: int, low: 1}]}", ".of.0.high", "is missing; holes of kind int need low and high"),
    ],
)
def test_a_wrong_hole_is_said_once_with_its_path(hole: str, path: str, message: str) -> None:
    (problem,) = errors(f"preset: snip\nmask: {{sparsity: {hole}}}")
    assert problem.path == f"mask.sparsity{path}"
    assert problem.message.startswith(message)


def test_everything_wrong_with_every_hole_and_beside_them_is_said_at_once() -> None:
    text = """
preset: snip
task: {seed: -1, model: {name: mlp, hiden: 3}}
train:
  batch: {hole: int, low: 1}
  optimizer: {name: {hole: chioce, of: [sgd]}}
  steps: {hole: uniform, low: 2ep, high: 1ep, step: 0}
mask:
  sparsity: {hole: uniform, low: 0.5, high: 1.5}
  criterion: {hole: choice, of: [snip, {name: snipp}, {hole: xx}]}
rounds: {hole: int, low: 0, high: 3}
search: {trials: 0}
"""
    problems = errors(text)
    assert {problem.path for problem in problems} == {
        "search.trials",
        "train.batch.high",
        "train.optimizer.name.hole",
        "train.steps",
        "train.steps.step",
        "mask.criterion",
        "mask.criterion.of.2.hole",
        "mask.sparsity",
        "task.model.hiden",
        "task.seed",
        "rounds",
    }
    assert len(problems) == 11
