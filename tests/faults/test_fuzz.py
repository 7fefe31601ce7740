"""Whatever stands in a recipe or a space: it is valid, or it is refused line by line: row 14 of the fault table.

Every example is made by hypothesis from the presets and golden recipes, and the same ones are made in every run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from prune_search.recipe import axes, space
from prune_search.recipe.clock import resolve
from prune_search.recipe.paradigm import paradigm
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space_samples import AtRandom
from prune_search.recipe.strict_yaml import dump, load, scalar

pytestmark = pytest.mark.faults

GOLDEN = Path(__file__).parent.parent / "golden" / "schema_1"
SPACES = """
- {preset: snip, mask: {sparsity: {hole: uniform, low: 0.5, high: 0.9}}, search: {trials: 3}}
- {preset: lottery-ticket, rounds: {hole: int, low: 1, high: 11}, weights: {at: {hole: choice, of: [0it, 1ep, end]}}}
- {train: {steps: {hole: int, low: 1ep, high: 9ep, log: true}}, any: [{preset: snip}, {preset: dense}, {preset: greg-1}]}
- {preset: fine-tune, train: {batch: 32, optimizer: {hole: choice, of: [sgd, {name: adam, lr: {hole: loguniform, low: 1e-4, high: 0.1}}]}}}
- {preset: random, retrain: {hole: choice, of: [none, {steps: 1ep}, {until: {hole: uniform, low: 10%, high: 90%}}]}}
"""  # noqa: E501 - one space per line
TREES: list[dict[str, Any]] = [
    *({"preset": name} for name in axes.PRESETS),
    *(axes.PRESETS[name].make() for name in axes.PRESETS),
    *(load(path.read_text("utf-8")) for path in sorted(GOLDEN.glob("*.yaml"))),
    *load(SPACES),
]
WORDS = [
    *(
        "end",
        "mask",
        "prepared",
        "none",
        "final",
        "learned",
        "0it",
        "3ep",
        "3ep20it",
        "5%",
        "end-3ep",
        "end-5%",
        "101%",
    ),
    *("snip", "magnitude", "all", "l1", "global", "erk", "weight", "filter", "2:4", "sgd", "adam", "cosine", "reinit"),
    *("maximize sparsity", "sparsity >= dense - 1%", "tpe", "shuffle", "gradual", "a.b:c", "x" * 70, "", "a\nb"),
    *("\u00e9", "\U0001f600", "\u202e", "ep", "1e309", "../../x", "__import__", "{}", "%", "None", "NaN", "0x10"),
]
NUMBERS = [0, 1, 2, -1, 10**9, 10**12, 10**18, -(10**18), 10**29, 0.5, 1.0, -0.0, 1e-300, 1e300, 1e308, -1.5]
KEYS = [
    *("schema", "task", "train", "mask", "weights", "retrain", "rounds", "search", "preset", "any", "hole", "name"),
    *("at", "criterion", "sparsity", "steps", "until", "clock", "optimizer", "lr", "batch", "per_round", "final", "of"),
    *("low", "high", "step", "log", "score", "transform", "dynamics", "schedule", "stable", "hold", "same_flops_as"),
    *("sparsty", "optimiser", "Mask", "mask.at", "", "a\nb", "\u00e9", "0", "x" * 200),
]

scalars = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(NUMBERS),
    st.sampled_from([math.nan, math.inf, -math.inf, None, True, False]),
    st.integers(-(10**29), 10**29),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8),
)
keys = st.sampled_from(KEYS) | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5)
holes = st.fixed_dictionaries(
    {"hole": st.sampled_from(["uniform", "loguniform", "int", "choice", "unifrm", 3])},
    optional={
        "low": scalars,
        "high": scalars,
        "of": st.lists(scalars, max_size=4) | scalars,
        "step": scalars,
        "log": st.booleans() | scalars,
    },
)
values = st.recursive(
    scalars | holes,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a tree with each of its keys."""
    if isinstance(node, dict | list):
        for key, value in list(node.items()) if isinstance(node, dict) else list(enumerate(node)):
            yield node, key
            yield from places(value)


STEPS = [
    "0it",
    "1it",
    "500it",
    "1ep",
    "9ep",
    "2ep3it",
    "0%",
    "12.5%",
    "50%",
    "100%",
    "end",
    "end-1ep",
    "end-20%",
    "mask",
]


def near(draw: st.DrawFn, value: Any) -> Any:
    """Another value of the same kind, which can be right too."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        factor = draw(st.sampled_from([0, 0.1, 0.5, 0.9, 1, 2, 3, 10, 1000]))
        return type(value)(value * factor) if abs(value) < 1e15 else value
    if isinstance(value, str):
        named = sorted({name for axis in axes.AXES if value in axis for name in axis})
        return draw(st.sampled_from(named or (STEPS if value[:1].isdigit() or value.startswith("end") else WORDS)))
    return value


def near_hole(draw: st.DrawFn, value: Any) -> Any:
    """A hole around a value."""
    if isinstance(value, int | float) and not isinstance(value, bool) and draw(st.booleans()):
        low, high = sorted([value, near(draw, value)])
        return {"hole": "int" if isinstance(value, int) else "uniform", "low": low, "high": high}
    return {"hole": "choice", "of": [value, near(draw, value)]}


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A preset, a golden recipe or a space, with some of its nodes replaced, removed, added, renamed or made holes."""
    tree: dict[str, Any] = scalar(dump(draw(st.sampled_from(TREES))))
    wild = draw(st.booleans())
    for _ in range(draw(st.integers(1, 4))):
        container, key = draw(st.sampled_from([*places(tree)] or [(tree, None)]))
        kinds = (
            ["replace", "replace", "remove", "add", "rename", "hole", "nest"] if wild else ["near", "near", "near hole"]
        )
        kind = draw(st.sampled_from(kinds))
        if kind == "near" and key is not None:
            container[key] = near(draw, container[key])
        elif kind == "near hole" and key is not None:
            container[key] = near_hole(draw, container[key])
        elif key is None or kind == "add":
            (container if isinstance(container, dict) else tree)[draw(keys)] = draw(values)
        elif kind == "remove":
            del container[key]
        elif kind == "rename" and isinstance(container, dict):
            container[draw(keys)] = container.pop(key)
        elif kind == "hole":
            container[key] = {"hole": "choice", "of": [container[key], draw(values)]}
        elif kind == "nest":
            container[key] = [container[key]] if draw(st.booleans()) else {draw(keys): container[key]}
        else:
            container[key] = draw(values)
    return tree


def check_refusal(problems: tuple[Problem, ...] | list[Problem]) -> None:
    assert problems
    for problem in problems:
        line = str(problem)
        assert len(line.splitlines()) == 1
        assert line.isprintable()
        assert problem.message
        # What has no path is said of the whole file.
        assert problem.path or problem.message.startswith(
            ("is empty", "must be a mapping", "is too large", "a region is invalid", "is a search space")
        )


def outcome(text: str) -> str:
    """Read a file as the command line does; "valid", "warned" or "refused"."""
    try:
        raw = load(text, mapping=True)
    except UserError as error:
        check_refusal(error.problems)
        return "refused"
    found, problems = space.inspect(raw, "file")
    if problems:
        check_refusal(problems)
    if found is None or any(problem.form for problem in problems):
        with pytest.raises(UserError) as caught:
            space.read_space(raw, "file")
        check_refusal(caught.value.problems)
        return "refused"
    assert space.read_space(raw, "file").digest() == found.digest()
    for seed in range(3):
        try:
            recipe = found.fill(AtRandom(Random(seed))).recipe()
        except UserError as error:
            check_refusal(error.problems)
            assert problems
            continue
        use(recipe)
    if found.has_holes:
        with pytest.raises(UserError):
            found.only_recipe()
    return "warned" if problems else "valid"


def use(recipe: Recipe) -> None:
    """What every command does with a recipe that is valid."""
    assert Recipe.read(recipe.canonical).canonical == recipe.canonical
    assert Recipe.read(load(dump(recipe.canonical), mapping=True)).key({}) == recipe.key({})
    assert paradigm(recipe)
    for epoch in (1, 10, 1000):
        try:
            line = resolve(recipe, epoch)
        except UserError as error:
            check_refusal(error.problems)
        else:
            assert 0 <= line.k1 <= line.total
            assert math.isfinite(line.rate(0))


fuzzed = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A space is looked at at its samples and few other points here, so that there is time for more spaces."""
    monkeypatch.setattr(space, "SAMPLED_DRAWS", 4)


@pytest.mark.slow
def test_what_is_fuzzed_is_valid_before() -> None:
    for tree in TREES:
        assert outcome(dump(tree)) in ("valid", "warned")


def valid_or_refused(tree: dict[str, Any]) -> None:
    try:
        text = dump(tree)
    except UserError as error:  # a text that no file can hold
        check_refusal(error.problems)
        return
    outcome(text)


@settings(fuzzed, max_examples=80)
@given(mutated())
def test_a_few_mutated_recipes_and_spaces_are_valid_or_refused_line_by_line(tree: dict[str, Any]) -> None:
    valid_or_refused(tree)


@pytest.mark.slow
@settings(fuzzed, max_examples=800)
@given(mutated())
def test_a_mutated_recipe_or_space_is_valid_or_refused_line_by_line(tree: dict[str, Any]) -> None:
    valid_or_refused(tree)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """The text of a recipe with lines doubled, moved or cut, and characters put in."""
    text = dump(draw(st.sampled_from(TREES)))
    for _ in range(draw(st.integers(1, 3))):
        lines = text.splitlines(keepends=True)
        line = draw(st.integers(0, max(len(lines) - 1, 0)))
        at = draw(st.integers(0, len(text)))
        kind = draw(st.sampled_from(["double", "indent", "cut", "put", "drop"]))
        if kind == "double" and lines:
            text = "".join([*lines, lines[line]])
        elif kind == "indent" and lines:
            text = "".join([*lines[:line], "  " + lines[line], *lines[line + 1 :]])
        elif kind == "cut":
            text = text[:at]
        elif kind == "drop":
            text = text[:at] + text[at + draw(st.integers(1, 5)) :]
        else:
            odd = [
                "{",
                "}",
                "[",
                "]",
                ":",
                ",",
                "-",
                "#",
                "&a ",
                "*a",
                "!!python/x ",
                "|",
                ">",
                "'",
                '"',
                "\t",
                "\n",
                "\0",
            ]
            text = text[:at] + draw(st.sampled_from([*odd, "1e309", ".nan", "? ", "%", "---\n", "\u2028"])) + text[at:]
    return text


@settings(fuzzed, max_examples=300)
@given(damaged())
def test_a_damaged_text_is_valid_or_refused_line_by_line(text: str) -> None:
    outcome(text)


@settings(fuzzed, max_examples=150)
@given(
    st.sampled_from(TREES),
    st.lists(st.tuples(st.lists(keys, min_size=1, max_size=4).map(".".join), values), max_size=3),
)
def test_any_set_is_valid_or_refused_line_by_line(tree: Mapping[str, Any], sets: list[tuple[str, Any]]) -> None:
    _, problems = space.inspect(tree, "file", sets)
    if problems:
        check_refusal(problems)


@pytest.mark.parametrize(
    ("number", "reading"),
    [("1e309", "inf"), ("-1e309", "-inf"), (".nan", "nan"), (".inf", "inf"), ("1e999999", "inf")],
)
@pytest.mark.parametrize("key", ["mask.sparsity", "train.optimizer.lr", "rounds", "train.batch", "search.time_budget"])
def test_what_is_no_finite_number_is_refused_with_its_path(key: str, number: str, reading: str) -> None:
    first, *rest = key.split(".")
    inner = number
    for part in reversed(rest):
        inner = f"{{{part}: {inner}}}"
    with pytest.raises(UserError) as caught:
        space.read_space(load(f"preset: snip\n{first}: {inner}\n", mapping=True), "file")
    (problem,) = caught.value.problems
    assert problem.path == key
    assert problem.message.endswith(f"(got {reading})")
