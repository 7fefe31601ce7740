"""A search space: a recipe with holes. A recipe without holes is a space of one point."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prune_search.recipe import axes, strict_yaml
from prune_search.recipe.clock import resolve
from prune_search.recipe.fields import Reading
from prune_search.recipe.holes import Draw, Filler, check_holes, is_hole
from prune_search.recipe.merge import Written, assign, expand
from prune_search.recipe.problems import Problem, UserError, not_one_of, suggestion
from prune_search.recipe.recipe import Recipe, check_top_level, digest_of
from prune_search.recipe.schema import SCHEMA, is_user_code
from prune_search.recipe.search_block import read_search
from prune_search.recipe.step import Step

NOMINAL_EPOCH = 100
SAMPLED_DRAWS = 200
RECIPE_FILE = "recipe.yaml"


@dataclass(frozen=True)
class Drawn:
    """One point of a space.

    Attributes:
        raw: the blocks, holes filled.
        option: the label of the option of ``any`` that it lies in; empty without ``any``.
        params: what was drawn, by dotted path.
    """

    raw: Mapping[str, Any]
    option: str
    params: Mapping[str, Any]

    def recipe(self) -> Recipe:
        """The recipe.

        Raises:
            UserError: the point lies in an invalid region of the space.
        """
        return Recipe.read(self.raw)


@dataclass(frozen=True)
class Space:
    """A recipe with holes, presets and options resolved.

    Attributes:
        written: the options with their blocks.
        search: the canonical search block.
        source: the file or preset that it was read from.
    """

    written: Written
    search: Mapping[str, Any]
    source: str

    @property
    def has_holes(self) -> bool:
        """Whether there is anything to search over."""
        return len(self.written.options) > 1 or any(_has_hole(blocks) for _, blocks in self.written.options)

    @property
    def preset(self) -> str | None:
        """The name of the preset that the user typed."""
        return self.written.preset

    def canonical(self) -> dict[str, Any]:
        """Plain data that says everything about the space: the options as they stand after merging, and the search."""
        options = [{"label": label, **blocks} for label, blocks in self.written.options]
        return {"schema": SCHEMA, "options": options, "search": dict(self.search)}

    def digest(self) -> str:
        """sha256 of the canonical form."""
        return digest_of(self.canonical())

    def fill(self, draw: Draw, epoch: int = NOMINAL_EPOCH) -> Drawn:
        """One point of the space, each hole filled by `draw`.

        Args:
            draw: who draws.
            epoch: iterations in an epoch: a draw between two whole epochs is rounded to an iteration.
        """
        options = self.written.options
        labels = tuple(label for label, _ in options)
        index = draw.choice("any", labels) if len(options) > 1 else 0
        label, blocks = options[index]
        filler = Filler(draw, epoch, {"any": label} if len(options) > 1 else {})
        name = f"any[{label}]" if len(options) > 1 else ""
        return Drawn(filler.fill(blocks, "", name), label, filler.params)

    def only_recipe(self) -> Recipe:
        """The recipe of a space without holes.

        Raises:
            UserError: there are holes, or the recipe is wrong.
        """
        if self.has_holes:
            draw = _Coverage(random.Random(0), {})
            self.fill(draw)
            names = ", ".join(draw.seen) or "any"
            message = f"it is a search space with holes ({names}): fill them with --set"
            raise UserError([Problem("", message, self.source)])
        try:
            return Recipe.read(self.written.options[0][1])
        except UserError as error:
            raise error.of(self.source) from None


def _has_hole(node: Any) -> bool:
    if is_hole(node):
        return True
    below: Sequence[Any] = list(node.values()) if isinstance(node, Mapping) else node if isinstance(node, list) else []
    return any(_has_hole(value) for value in below)


def read_space(raw: Mapping[str, Any], source: str, assignments: Sequence[tuple[str, Any]] = ()) -> Space:
    """A space from the plain data of a file.

    Args:
        raw: what the file holds.
        source: how errors call it.
        assignments: ``--set`` keys and values.

    Raises:
        UserError: with everything that is wrong with it whatever is drawn.
    """
    space, problems = inspect(raw, source, assignments)
    errors = [problem for problem in problems if problem.form]
    if errors or space is None:
        raise UserError(errors or problems)
    return space


def inspect(
    raw: Mapping[str, Any], source: str, assignments: Sequence[tuple[str, Any]] = ()
) -> tuple[Space | None, list[Problem]]:
    """A space, and what is wrong with it: problems with ``form`` are errors, the others are warnings of a region."""
    reading = Reading()
    try:
        written = expand(raw)
        for key, value in assignments:
            written = assign(written, key, value)
    except UserError as error:
        return None, list(error.of(source).problems)
    search = read_search(written.search, reading)
    for label, blocks in written.options:
        prefix = f"any[{label}]" if label else ""
        check_holes(blocks, prefix, reading)
    if reading.problems or search is None:
        # What stands outside the holes is still read, so that everything is said at once.
        problems = [*reading.problems, *_form_outside_holes(written)]
        return None, _unique(replace(problem, source=source) for problem in problems)
    space = Space(written, search, source)
    return space, _unique(replace(problem, source=source) for problem in _drawn_problems(space))


def _form_outside_holes(written: Written) -> list[Problem]:
    found: list[Problem] = []
    for _, blocks in written.options:
        if not _has_hole(blocks):
            reading = Reading()
            check_top_level(blocks, reading)
            found += reading.problems
            try:
                Recipe.read(blocks)
            except UserError as error:
                found += error.problems
        else:
            reading = Reading()
            check_top_level(blocks, reading)
            found += reading.problems
    return found


def _unique(problems: Iterator[Problem] | Sequence[Problem] | Any) -> list[Problem]:
    return list(dict.fromkeys(problems))


@dataclass
class _Coverage:
    """Draws at random, but for the holes whose value is forced; remembers what it saw."""

    rng: random.Random
    forced: Mapping[str, float | int]
    seen: dict[str, int] = field(default_factory=dict)

    def choice(self, name: str, labels: tuple[str, ...]) -> int:
        self.seen[name] = len(labels)
        forced = self.forced.get(name)
        return int(forced) if forced is not None else self.rng.randrange(len(labels))

    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float:
        self.seen[name] = 2
        share = self.forced.get(name, self.rng.random())
        value = low * (high / low) ** share if log else low + share * (high - low)
        if step:
            value = low + step * round((value - low) / step)
        return min(max(value, low), high)

    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int:
        self.seen[name] = 2
        share = self.forced.get(name, self.rng.random())
        value = low * (high / low) ** share if log and low > 0 else low + share * (high - low)
        return min(max(low + step * round((value - low) / step), low), high)


def _drawn_problems(space: Space) -> list[Problem]:
    """What is wrong at drawn points: every option of every choice once, both ends of every range, and random ones.

    A problem of form is an error wherever it is found. A problem of combination is an error where every draw has one,
    and elsewhere a warning with an example.
    """
    errors: list[Problem] = []
    invalid: list[tuple[Drawn, list[Problem]]] = []
    valid = 0
    for drawn in _coverage(space):
        found = _problems_of(drawn)
        errors += [replace(problem, path=problem.path) for problem in found if problem.form]
        if found:
            invalid.append((drawn, found))
        else:
            valid += 1
    if errors:
        return errors
    if not valid:
        return [replace(problem, form=True) for _, found in invalid for problem in found]
    if not invalid:
        return []
    drawn, found = invalid[0]
    example = ", ".join(f"{path}={value}" for path, value in drawn.params.items())
    share = 100 * len(invalid) / (len(invalid) + valid)
    reason = "; ".join(": ".join(filter(None, (p.path, p.message))) for p in found[:2])
    text = f"a region is invalid ({share:.0f}% of {len(invalid) + valid} sampled draws), for example {example}: {reason}"
    return [Problem("", text, form=False)]


def _coverage(space: Space) -> Iterator[Drawn]:
    rng = random.Random(0)
    if not space.has_holes:
        yield space.fill(_Coverage(rng, {}))
        return
    waiting: list[dict[str, float | int]] = [{}]
    known: set[str] = set()
    while waiting:
        forced = waiting.pop(0)
        draw = _Coverage(rng, forced)
        yield space.fill(draw)
        for name, count in draw.seen.items():
            if name not in known:
                known.add(name)
                inside = {key: value for key, value in forced.items() if name.startswith(key)}
                waiting += [{**forced, **inside, name: index} for index in range(count)]
    for _ in range(SAMPLED_DRAWS):
        yield space.fill(_Coverage(rng, {}))


def _problems_of(drawn: Drawn) -> list[Problem]:
    try:
        recipe = drawn.recipe()
        epoch = known_epoch(recipe)
        if epoch is not None:
            resolve(recipe, epoch)
    except UserError as error:
        return list(error.problems)
    return []


def known_epoch(recipe: Recipe) -> int | None:
    """Iterations in an epoch where the data set's size is known before it is read, else None.

    Raises:
        UserError: the batch is larger than the training set.
    """
    data = recipe.blocks["task"]["data"]
    if is_user_code(data):
        return None
    examples = axes.DATASETS[data if isinstance(data, str) else data["name"]].facts["train_examples"]
    return epoch_length(examples, recipe.train["batch"]) if examples else None


def epoch_length(examples: int, batch: int) -> int:
    """Iterations in an epoch: ⌊examples / batch⌋.

    Raises:
        UserError: the batch is larger than the training set.
    """
    if batch > examples:
        text = f"is larger than the training set of {examples} examples (got {batch})"
        raise UserError([Problem("train.batch", text, form=False)])
    return examples // batch


def find(target: str) -> tuple[Mapping[str, Any], str]:
    """The plain data of a recipe file, an exported folder, or a preset by name, and how errors call it.

    Raises:
        UserError: there is no such file or preset, or the file is no strict YAML.
    """
    path = Path(target)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError):
        is_folder = exists = False
    if is_folder:
        path = path / RECIPE_FILE
        exists = True
    if exists or path.suffix in (".yaml", ".yml") or "/" in target:
        try:
            return strict_yaml.load_file(path), str(path)
        except UserError as error:
            raise error.of(str(path)) from None
    if target in axes.PRESETS:
        return {"preset": target}, target
    message = f"is no file, and no preset{suggestion(target, axes.PRESETS)}: {not_one_of(target, axes.PRESETS)}"
    raise UserError([Problem("", message, target)])


def whole_train_steps(recipe: Recipe, epoch: int) -> int:
    """K in iterations."""
    return Step.parse(recipe.train["steps"]).resolve(0, epoch)
