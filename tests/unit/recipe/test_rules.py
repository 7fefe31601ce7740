"""Combinations that make no sense: each is refused in one sentence, with its path, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from prune_search.recipe import axes
from prune_search.recipe.fields import Integer
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.registry import AnyAxis, Option
from prune_search.recipe.strict_yaml import load

TAIL = "weights: {at: 0it}, retrain: {until: end}"
MAGNITUDE = "mask: {at: end, criterion: magnitude, sparsity: 0.5}"
ALL = "mask: {at: 0it, criterion: all, sparsity: 0.9}"
BLOCKS = "{name: uniform, order: blocks}"
GRADUAL = "weights: {at: 0it}, retrain: {until: end, dynamics: gradual}"


def problems(text: str) -> list[Problem]:
    with pytest.raises(UserError) as caught:
        Recipe.read(load(f"{{{text}}}", mapping=True))
    return list(caught.value.problems)


def test_a_scope_that_cannot_be_read_leaves_open_whether_a_sparsity_is_missing() -> None:
    found = problems(f"mask: {{at: end, criterion: magnitude, scope: [global]}}, {TAIL}")
    assert [problem.path for problem in found] == ["mask.scope"]


def read(text: str) -> Recipe:
    return Recipe.read(load(f"{{{text}}}", mapping=True))


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        (
            f"{ALL}, weights: {{at: 0it}}, retrain: {{until: end, lora: {{}}, dynamics: gradual}}",
            "retrain.lora",
            "trains under one mask and cannot be combined with retrain.dynamics, which moves it",
        ),
        (
            f"train: {{batchnorm_l1: 0.1}}, {MAGNITUDE}, weights: {{at: 0it}}, retrain: {{until: end, lora: {{}}}}",
            "retrain.lora",
            "leaves batch norms as they are and cannot be combined with train.batchnorm_l1",
        ),
        (
            f"{MAGNITUDE}, weights: {{at: 0it}}, "
            "retrain: {until: end, lora: {}, optimizer: {name: sghmc, weight_decay: 0.1}}",
            "retrain.lora",
            "cannot be combined with optimizer sghmc, which samples weights that have a prior",
        ),
        (
            f"mask: {{at: 0it, criterion: magnitude, sparsity: 0.5}}, {TAIL}, rounds: 2",
            "mask.at",
            "must be end with more than one round (got '0it')",
        ),
        (
            f"{MAGNITUDE}, weights: {{at: 0it}}, retrain: none, rounds: 2",
            "retrain",
            "cannot be none with more than one round: each round finds its mask on the retrained weights",
        ),
        (
            f"{ALL}, {TAIL}",
            "mask.sparsity",
            "must be 0 with criterion all, which keeps everything, unless retrain.dynamics prunes (got {'final': 0.9})",
        ),
        (
            f"mask: {{at: end, criterion: snip, sparsity: 0.5, scope: {BLOCKS}}}, {TAIL}",
            "mask.scope.order",
            "'blocks' needs a criterion that scores a layer by its own inputs, or without data: sparsegpt, wanda, "
            "magnitude … (got 'snip')",
        ),
        (
            f"mask: {{at: end, criterion: wanda, sparsity: 0.5, scope: {BLOCKS}, granularity: filter}}, {TAIL}",
            "mask.granularity",
            "must be of single weights with scope option order: blocks (got 'filter')",
        ),
        (
            f"mask: {{at: end, criterion: wanda, sparsity: 0.5, scope: {BLOCKS}, score: {{iterations: 2}}}}, {TAIL}",
            "mask.score.iterations",
            "must be 1 with scope option order: blocks (got 2)",
        ),
        (
            f"mask: {{at: end, criterion: wanda, sparsity: 0.5, scope: {BLOCKS}, control: invert}}, {TAIL}",
            "mask.control",
            "invert needs scores, and a search block by block keeps none",
        ),
        (
            f"mask: {{at: end, criterion: wanda, sparsity: {{by: scope}}, scope: {{name: ramp, first: 0.2}}}}, {TAIL}",
            "mask.scope",
            "ramp needs first and last with sparsity: {by: scope}, which they determine",
        ),
        (
            f"mask: {{at: 0it, criterion: all, sparsity: 0, control: shuffle}}, {TAIL}",
            "mask.control",
            "has nothing to change: criterion all keeps everything",
        ),
        (
            f"mask: {{at: 0it, criterion: magnitude, sparsity: learned}}, {TAIL}",
            "mask.sparsity",
            "'learned' works with neither criterion magnitude nor scope global",
        ),
        (
            f"mask: {{at: 0it, criterion: magnitude, sparsity: {{by: scope}}, scope: erk}}, {TAIL}",
            "mask.sparsity",
            "'by' works with neither criterion magnitude nor scope erk",
        ),
        (
            f"mask: {{at: 0it, criterion: magnitude, sparsity: {{layers: 1}}, granularity: layer}}, {TAIL}",
            "mask.sparsity",
            "'layers' works with neither criterion magnitude nor scope global",
        ),
        (
            f"{MAGNITUDE}, weights: {{at: prepared}}, retrain: {{steps: 1ep}}",
            "weights.at",
            "is 'prepared', but mask.prepare is not given",
        ),
        (
            f"train: {{from: w.safetensors}}, {MAGNITUDE}, {TAIL}",
            "weights.at",
            "must be end with train.from, which provides only w(K), not earlier weights (got '0it')",
        ),
        (
            "train: {from: w.safetensors}, mask: {at: 50%, criterion: magnitude, sparsity: 0.5}, "
            "weights: {at: end}, retrain: none",
            "mask.at",
            "must be end with train.from, which provides only w(K), not earlier weights (got '50%')",
        ),
        (
            f"{MAGNITUDE}, weights: {{at: 0it}}, retrain: {{steps: 1ep, until: end}}",
            "retrain",
            "has both steps and until: they are alternatives",
        ),
        (f"{MAGNITUDE}, weights: {{at: 0it}}, retrain: {{}}", "retrain", "needs steps, or until: end"),
        (
            f"{MAGNITUDE}, weights: {{at: 0it}}, retrain: {{steps: 1ep, schedule: cosine, clock: 0it}}",
            "retrain.clock",
            "works only with train's schedule, not with retrain.schedule (got '0it')",
        ),
        (
            f"{MAGNITUDE}, weights: {{at: 0it}}, retrain: {{until: end, schedule: cosine}}",
            "retrain.steps",
            "is required with retrain.schedule; until counts on train's clock",
        ),
        (
            f"{MAGNITUDE}, weights: {{at: end}}, retrain: {{until: end}}",
            "retrain.steps",
            "is required if the rate is held; until counts on train's clock",
        ),
        (
            f"{MAGNITUDE}, weights: {{at: 0it}}, retrain: {{until: end, clock: {{hold: 0.1}}}}",
            "retrain.steps",
            "is required if the rate is held; until counts on train's clock",
        ),
        (
            f"mask: {{at: 0it, criterion: magnitude, sparsity: 0.9}}, {GRADUAL}",
            "mask.criterion",
            "must be all with dynamics gradual (got 'magnitude')",
        ),
        (
            f"mask: {{at: 0it, criterion: all, sparsity: {{per_round: 0.2}}}}, {GRADUAL}",
            "mask.sparsity",
            "must be final with retrain.dynamics (got {'per_round': 0.2})",
        ),
        (
            f"mask: {{at: 0it, criterion: all, sparsity: 0.9, control: invert}}, {GRADUAL}",
            "mask.control",
            "invert needs scores, and a mask moved by retrain.dynamics ends without any",
        ),
        (
            f"mask: {{at: end, criterion: all, sparsity: 0.9}}, {GRADUAL}, rounds: 2",
            "rounds",
            "must be 1 with retrain.dynamics (got 2)",
        ),
        (
            f"train: {{init: as-built}}, {MAGNITUDE}, "
            "weights: {at: 0it, transform: [batchnorm-recalibrate, reinit]}, retrain: {until: end}",
            "weights.transform.1",
            "reinit needs a train.init that draws random weights (got 'as-built')",
        ),
    ],
)
def test_an_impossible_combination_is_refused_in_one_sentence(text: str, path: str, message: str) -> None:
    (problem,) = problems(text)
    assert (problem.path, problem.message) == (path, message)
    assert not problem.form


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        (f"mask: {{at: 0it, criterion: magnitude}}, {TAIL}", "mask.sparsity", "is missing; it must be a number"),
        (
            f"mask: {{at: 0it, sparsity: 0.5}}, {TAIL}",
            "mask.criterion",
            "is missing; it must be a criterion: activation, all, ",
        ),
        (f"mask: {{criterion: magnitude, sparsity: 0.5}}, {TAIL}", "mask.at", "is missing; it must be a step"),
        (f"{MAGNITUDE}, weights: {{}}, retrain: none", "weights.at", "is missing; it must be a step"),
        (TAIL, "mask", "is missing; it must have the keys at, prepare, criterion"),
        (f"{MAGNITUDE}, retrain: none", "weights", "is missing; it must have the keys at, transform"),
        (f"{MAGNITUDE}, weights: {{at: 0it}}", "retrain", "is missing; it must be none, or have steps or until"),
        (
            f"mask: {{at: {{stable: nothing}}, criterion: magnitude, sparsity: 0.5}}, {TAIL}",
            "mask.at.stable",
            "'nothing' is not one of ",
        ),
        (
            f"mask: {{at: 0it, criterion: magnitude, sparsity: 0.5, prepare: reinit}}, {TAIL}",
            "mask.prepare",
            "'reinit' is not one of ",
        ),
        (
            f"{MAGNITUDE}, weights: {{at: 0it, transform: [rising-penalty]}}, retrain: none",
            "weights.transform.0",
            "'rising-penalty' is not one of ",
        ),
        (
            "mask: {at: 0it, criterion: all, sparsity: 0.9}, weights: {at: 0it}, "
            "retrain: {until: end, dynamics: {name: gradual, criterion: all}}",
            "retrain.dynamics.criterion",
            "'all' is not one of ",
        ),
        (
            f"mask: {{at: 0it, criterion: magnitude, sparsity: 0.5, score: {{batches: 1, per_class: 2}}}}, {TAIL}",
            "mask.score.per_class",
            "cannot be combined with batches; choose one",
        ),
        (f"{MAGNITUDE}, weights: {{at: 0it}}, retrain: nothing", "retrain", "'nothing' is not one of none"),
        (f"{MAGNITUDE}, {TAIL}, schema: 0", "schema", "must be 1 (got 0)"),
        (f"{MAGNITUDE}, {TAIL}, schema: '1'", "schema", "must be 1 (got '1')"),
        (f"{MAGNITUDE}, {TAIL}, schema: true", "schema", "must be 1 (got True)"),
        (
            f"mask: {{at: 0it, criterion: magnitude, sparsity: 0.5, granularity: '2:x'}}, {TAIL}",
            "mask.granularity",
            "'2:x' is not one of ",
        ),
    ],
)
def test_what_no_draw_can_cure_is_of_form(text: str, path: str, message: str) -> None:
    (problem,) = problems(text)
    assert problem.path == path
    assert problem.message.startswith(message)
    assert problem.form


@pytest.mark.parametrize(
    "text",
    [
        f"mask: {{at: 0it, criterion: all, sparsity: 0.9}}, {GRADUAL}",
        f"mask: {{at: 0it, criterion: all, sparsity: 0.9, control: shuffle}}, {GRADUAL}",
        f"mask: {{at: 0it, criterion: all, sparsity: 0}}, {TAIL}",
        f"mask: {{at: 0it, criterion: all, sparsity: {{per_round: 0}}}}, {TAIL}",
        f"{MAGNITUDE}, {TAIL}, rounds: 1000",
        "mask: {at: end, prepare: rising-penalty, criterion: l1, sparsity: 0.5}, weights: {at: 0it}, retrain: none",
        f"train: {{from: w.safetensors}}, {MAGNITUDE}, weights: {{at: mask}}, retrain: none",
        f"train: {{init: as-built}}, {MAGNITUDE}, weights: {{at: end, transform: []}}, retrain: none",
    ],
)
def test_what_makes_sense_is_allowed(text: str) -> None:
    recipe = read(text)
    assert Recipe.read(recipe.blocks) == recipe


def test_two_impossible_things_are_both_said() -> None:
    text = "mask: {at: 0it, criterion: magnitude, sparsity: 0.5}, weights: {at: 0it}, retrain: none, rounds: 2"
    assert [problem.path for problem in problems(text)] == ["mask.at", "retrain"]


# --- what entries declare -------------------------------------------------------------------------------------------


@pytest.fixture
def entries() -> Iterator[None]:
    """Entries that declare what they go with, as later versions and plugins have them."""
    made: list[tuple[AnyAxis, str]] = []

    def add(axis: AnyAxis, name: str, **declared: Any) -> None:
        axis.register(name, summary="for this test", **declared)(lambda *_, **__: None)
        made.append((axis, name))

    if "n-of-m" not in axes.GRANULARITIES:
        kept = {"n": Option(Integer(1, 64)), "m": Option(Integer(1, 64))}
        add(axes.GRANULARITIES, "n-of-m", options=kept, fixed_sparsity=lambda n, m: 1 - n / m)
    add(axes.CRITERIA, "filters-only", granularities=("filter",))
    add(axes.CRITERIA, "learns", sparsity=("learned",))
    add(axes.SCOPES, "filters-scope", granularities=("filter",), sparsity=("by",))
    add(axes.TRANSFORMS, "filters-transform", granularities=("filter",), place="both")
    add(axes.DYNAMICS, "moves", granularities=("filter",), scopes=("uniform", "erk"))
    yield
    for axis, name in made:
        axis.withdraw(name)


@pytest.mark.parametrize("granularity", ["'2:4'", "{name: n-of-m, n: 2, m: 4}"])
@pytest.mark.parametrize("sparsity", ["", "sparsity: 0.5, ", "sparsity: {final: 0.5}, "])
@pytest.mark.usefixtures("entries")
def test_two_of_four_fixes_the_sparsity(granularity: str, sparsity: str) -> None:
    mask = read(f"mask: {{at: 0it, criterion: magnitude, {sparsity}granularity: {granularity}}}, {TAIL}").mask
    assert mask.granularity.written == {"name": "n-of-m", "n": 2, "m": 4}
    assert mask.sparsity.final == 0.5


@pytest.mark.usefixtures("entries")
def test_a_fixed_sparsity_has_one_form_whatever_was_rounded() -> None:
    left_out, given = (
        read(f"mask: {{at: 0it, criterion: magnitude, {sparsity}granularity: '2:3'}}, {TAIL}")
        for sparsity in ("", "sparsity: 0.3333333333, ")
    )
    assert left_out.canonical == given.canonical


@pytest.mark.parametrize("sparsity", ["0.9", "{per_round: 0.5}", "learned"])
@pytest.mark.usefixtures("entries")
def test_another_sparsity_than_the_fixed_one_is_refused(sparsity: str) -> None:
    (problem,) = problems(f"mask: {{at: 0it, criterion: magnitude, sparsity: {sparsity}, granularity: '2:4'}}, {TAIL}")
    assert problem.path == "mask.sparsity"
    assert problem.message.startswith("is always 0.5 with this granularity; leave it out (got ")


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        (
            f"mask: {{at: 0it, criterion: filters-only, sparsity: 0.5}}, {TAIL}",
            "mask.criterion",
            "filters-only works only with granularity filter (got 'weight')",
        ),
        (
            f"mask: {{at: 0it, criterion: magnitude, sparsity: 0.5, scope: filters-scope}}, {TAIL}",
            "mask.scope",
            "filters-scope works only with granularity filter (got 'weight')",
        ),
        (
            f"mask: {{at: 0it, criterion: magnitude, sparsity: 0.5, prepare: filters-transform}}, {TAIL}",
            "mask.prepare",
            "filters-transform works only with granularity filter (got 'weight')",
        ),
        (
            f"{MAGNITUDE}, weights: {{at: 0it, transform: [reinit, filters-transform]}}, retrain: {{until: end}}",
            "weights.transform.1",
            "filters-transform works only with granularity filter (got 'weight')",
        ),
        (
            "mask: {at: 0it, criterion: magnitude, sparsity: 0.5, scope: erk}, weights: {at: 0it}, "
            "retrain: {until: end, dynamics: moves}",
            "retrain.dynamics",
            "moves works only with granularity filter (got 'weight')",
        ),
        (
            "mask: {at: 0it, criterion: magnitude, sparsity: 0.5, granularity: filter}, weights: {at: 0it}, "
            "retrain: {until: end, dynamics: moves}",
            "mask.scope",
            "must be uniform, erk with dynamics moves (got 'global')",
        ),
        (
            "mask: {at: 0it, criterion: all, sparsity: 0.5, scope: erk, granularity: filter}, weights: {at: 0it}, "
            "retrain: {until: end, dynamics: moves}",
            "mask.criterion",
            "must not keep everything with dynamics moves (got 'all')",
        ),
    ],
)
@pytest.mark.usefixtures("entries")
def test_an_entry_goes_with_what_it_declares_only(text: str, path: str, message: str) -> None:
    (problem,) = problems(text)
    assert (problem.path, problem.message) == (path, message)


@pytest.mark.usefixtures("entries")
def test_a_form_of_sparsity_goes_with_an_entry_that_declares_it() -> None:
    learned = read(f"mask: {{at: 0it, criterion: learns, sparsity: learned}}, {TAIL}")
    assert learned.mask.sparsity.learned
    mask = "{at: 0it, criterion: l1, sparsity: {by: scope}, scope: filters-scope, granularity: filter}"
    assert read(f"mask: {mask}, {TAIL}").mask.sparsity.by_scope


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        (
            "mask: {at: 50%, criterion: magnitud, sparsity: 0.5}, weights: {at: 0it}, retrain: none, rounds: 2",
            ["mask.criterion", "mask.at", "retrain"],
        ),
        (
            "mask: {at: ende, criterion: magnitude, sparsity: 0.5}, weights: {at: 0it}, retrain: none, rounds: 2",
            ["mask.at", "retrain"],
        ),
        (
            "mask: {at: end, criterion: magnitude, sparsity: 1.5, scope: globl}, weights: {at: prepared}, "
            "retrain: {steps: 3ep, until: end, clock: {hold: 0.1}}, train: {optimizer: {nesterov: true, momentum: 0}}",
            ["mask.sparsity", "mask.scope", "weights.at", "retrain", "retrain.optimizer", "train.optimizer"],
        ),
        # What depends on a part that cannot be read is not guessed at.
        (
            "mask: {at: 0it, criterion: al, sparsity: 0.5}, weights: {at: 0it}, "
            "retrain: {until: end, dynamics: gradual}",
            ["mask.criterion"],
        ),
        (f"mask: {{at: 0it, criterion: magnitude, sparsity: 0.5}}, {TAIL}, rounds: two", ["rounds"]),
        (f"mask: 3, {TAIL}, rounds: 2", ["mask"]),
        (f"mask: {{at: 0it}}, {TAIL}", ["mask.criterion"]),
        (
            "mask: [], weights: [], retrain: 3, train: x, task: y, rounds: z",
            ["task", "train", "mask", "weights", "retrain"],
        ),
    ],
)
def test_what_does_not_go_together_is_said_beside_what_cannot_be_read(text: str, paths: list[str]) -> None:
    found = [problem.path for problem in problems(text)]
    assert set(paths) <= set(found)
    assert len(found) == len(set(found))
    assert set(found) - set(paths) <= {"mask.sparsity", "rounds"}


def test_a_sparsity_that_only_an_unreadable_granularity_could_fix_is_not_looked_into() -> None:
    mask = {"at": "end", "criterion": "l1", "scope": "uniform", "granularity": {}}
    _, problems = Recipe.examine({"mask": mask, "weights": {"at": "end"}, "retrain": "none"})
    assert [problem.path for problem in problems] == ["mask.granularity"]
