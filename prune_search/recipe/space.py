"""A search space: a recipe with holes. A recipe without holes is a space of one point."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prune_search.recipe import axes, strict_yaml
from prune_search.recipe.begin import COLD, Begin, Beginning, beginnings, read_beginnings
from prune_search.recipe.clock import resolve
from prune_search.recipe.data_source import source_of
from prune_search.recipe.fields import child
from prune_search.recipe.holes import Draw, Filler, check_holes, is_hole, without_broken_holes
from prune_search.recipe.merge import Written, assign, expand
from prune_search.recipe.metric_names import LEADING, measured_on, wrong_metric
from prune_search.recipe.problems import Problem, UserError, not_one_of, shown, suggestion
from prune_search.recipe.reading import Reading
from prune_search.recipe.recipe import Recipe, digest_of, newer_schema
from prune_search.recipe.schema import SCHEMA, TASK, TRAIN
from prune_search.recipe.search_block import is_sharded, parse_constraint, parse_objective, read_search
from prune_search.recipe.sharding import sharding_problems
from prune_search.recipe.space_samples import AtRandom, Corner, Given, space_samples

NOMINAL_EPOCH = 100
# Iterations in an epoch of a stream that does not say how many examples it has.
STREAM_EPOCH = 1000
SAMPLED_DRAWS = 200
MAX_PROBLEMS = 100
MAX_NAMES = 12
RECIPE_FILE = "recipe.yaml"


@dataclass(frozen=True)
class Drawn:
    """One point of a space.

    Attributes:
        raw: the blocks, holes filled.
        option: the label of the option of ``any`` that it lies in; empty without ``any``.
        params: what was drawn, by dotted path.
        of_0_1: what is left out means what it meant to version 0.1.
    """

    raw: Mapping[str, Any]
    option: str
    params: Mapping[str, Any]
    of_0_1: bool = False

    def recipe(self) -> Recipe:
        """The recipe.

        Raises:
            UserError: the point lies in an invalid region of the space.
        """
        return Recipe.read(self.raw, self.of_0_1)


@dataclass(frozen=True)
class Space:
    """A recipe with holes, presets and options resolved.

    Attributes:
        written: the options with their blocks.
        search: the canonical search block.
        source: the file or preset that it was read from.
        as_written: draw the holes in the order in which the file writes them, as version 0.1 did, and not by name.
        labels: the labels of its choices, as they are met.
        of_0_1: it is that of a search of version 0.1, whose recipes mean what they meant to it.
    """

    written: Written
    search: Mapping[str, Any]
    source: str
    as_written: bool = False
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False, compare=False)
    of_0_1: bool = False

    @property
    def has_holes(self) -> bool:
        """Whether there is anything to search over."""
        return len(self.written.options) > 1 or any(
            _has_hole(value) for _, blocks in self.written.options for value in blocks.values()
        )

    @property
    def preset(self) -> str | None:
        """The name of the preset that the user typed."""
        return self.written.preset

    def canonical(self) -> dict[str, Any]:
        """Plain data that says everything about the space: the options as they stand after merging, and the search."""
        options = [
            {"label": label, "own": sorted(self.written.own.get(label, ())), **blocks}
            for label, blocks in self.written.options
        ]
        return {"schema": SCHEMA, "options": options, "search": dict(self.search)}

    def digest(self) -> str:
        """sha256 of the canonical form."""
        return digest_of(self.canonical())

    def fill(self, draw: Draw, epoch: int | None = None, examples: int = 0) -> Drawn:
        """One point of the space, each hole filled by `draw`.

        Args:
            draw: who draws.
            epoch: iterations in an epoch: a draw between two whole epochs is rounded to an iteration. None: computed
                from the data set and the batch that were drawn, as far as their sizes are known.
            examples: training examples, of a data set whose size is not known before it is read.
        """
        options = self.written.options
        labels = tuple(label for label, _ in options)
        index = draw.choice("any", labels) if len(options) > 1 else 0
        label, blocks = options[index]

        def epoch_of(data: Any, batch: Any, accumulate: Any) -> int:
            return epoch or nominal_epoch(data, batch, examples, accumulate)

        params = {"any": label} if len(options) > 1 else {}
        filler = Filler(
            draw,
            lambda path: self.written.place(label, path),
            epoch_of,
            params,
            self.labels,
            as_written=self.as_written,
        )
        return Drawn(filler.fill(blocks, ""), label, params, self.of_0_1)

    def only_recipe(self) -> Recipe:
        """The recipe of a space without holes.

        Raises:
            UserError: there are holes, or the recipe is wrong.
        """
        if self.has_holes:
            draw = Corner({})
            self.fill(draw)
            names = ", ".join([*draw.seen][:MAX_NAMES]) + (", …" if len(draw.seen) > MAX_NAMES else "")
            message = f"is a search space with holes ({names}): fill them with --set"
            raise UserError([Problem("", message, self.source)])
        try:
            return Recipe.read(self.written.options[0][1], self.of_0_1)
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
    if newer := newer_schema(raw):
        return None, [replace(newer, source=source)]
    reading = Reading()
    written = expand(raw, reading)
    for key, value in assignments:
        try:
            written = assign(written, key, value)
        except UserError as error:
            reading.problems += error.problems
    search = read_search(written.search, reading)
    if search is not None:
        reading.problems += _unmeasured(search, [blocks for _, blocks in written.options])
    before = len(reading.problems)
    for label, blocks in written.options:
        for path, node in _places(blocks):
            check_holes(node, written.place(label, path), reading)
    begun = list(_begun(written)) if len(reading.problems) == before else []
    if reading.problems or search is None:
        problems = [*reading.problems, *_form_elsewhere(written), *(one for one in begun if isinstance(one, Problem))]
        return None, _unique(problems, source)
    space = Space(written, search, source)
    problems = _drawn_problems(space)
    if begun:
        problems += [one for one in begun if isinstance(one, Problem)]
        good = [one.as_data() for one in begun if isinstance(one, Beginning)]
        space = replace(space, search={**search, "begin": good})
        problems += _begun_wrongly(space)
    return space, _unique(problems, source)


def _begun(written: Written) -> Iterator[Beginning | Problem]:
    """The recipes that are tried first, or what is wrong with them."""
    search = written.search if isinstance(written.search, Mapping) else {}
    reading = Reading()
    items = Begin().read(search.get("begin", COLD), "search.begin", reading)
    if items != COLD and not reading.problems and written.options:
        yield from read_beginnings(items, written, find, _epoch(written))


def _epoch(written: Written) -> int:
    """Iterations in an epoch of the first option, as far as they are known."""
    blocks = written.options[0][1]

    def at(block: str, key: str) -> Any:
        there = blocks.get(block)
        found = there.get(key) if isinstance(there, Mapping) else None
        return None if is_hole(found) else found

    return nominal_epoch(at("task", "data"), at("train", "batch"), accumulate=at("train", "accumulate"))


def _begun_wrongly(space: Space) -> Iterator[Problem]:
    """What is wrong with the recipes that are tried first, as the space fills up what they do not say."""
    begun = beginnings(space.search)
    if len(begun) > space.search["trials"]:
        text = f"names {len(begun)} recipes, which are more than the {space.search['trials']} trials"
        yield Problem("search.begin", text)
    for place, one in enumerate(begun):
        corner = Corner({})
        drawn = space.fill(Given(one.values, corner))
        if corner.seen:
            # What is not said is drawn until it fits.
            continue
        for problem in _problems_of(space, drawn):
            yield Problem(
                f"search.begin[{place}]", f"{one.name}: {': '.join(filter(None, (problem.path, problem.message)))}"
            )


def _unmeasured(search: Mapping[str, Any], options: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """Metrics that no task of the space has, as far as its data sets say what is measured on them."""
    tasks = [blocks.get("task", {}) for blocks in options]
    known = [measured_on(task.get("data")) if isinstance(task, Mapping) else () for task in tasks]
    if not known or not all(known):
        return
    scores = [*dict.fromkeys(name for metrics in known for name in metrics), "loss"]
    for key in ("objectives", "constraints"):
        for index, written in enumerate(search[key]):
            metric = parse_objective(written)[1] if key == "objectives" else parse_constraint(written)[0]
            if metric != LEADING and (text := wrong_metric(metric, scores)):
                yield Problem(f"search.{key}[{index}]", text)


def _places(blocks: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Path and value of what stands one level deep in the blocks, the depth at which options are merged."""
    for name, block in blocks.items():
        path = child("", name)
        if isinstance(block, Mapping) and not is_hole(block):
            yield from ((child(path, key), value) for key, value in block.items())
        else:
            yield path, block


def _unique(problems: Iterable[Problem], source: str) -> list[Problem]:
    return list(dict.fromkeys(replace(problem, source=source) for problem in problems))


def _form_elsewhere(written: Written) -> list[Problem]:
    """What else is wrong with a file whose holes, options or search are: everything is said at once."""
    broken: set[str] = set()
    options = tuple((label, without_broken_holes(blocks, "", broken)) for label, blocks in written.options)
    if not options:
        return []
    space = Space(replace(written, options=options), {}, "")
    hidden = {written.place(label, path) for label, _ in options for path in broken}
    # A registered value whose name is a broken hole is told of at the value.
    hidden |= {path.removesuffix(".name") for path in hidden}
    found = _Findings()
    found.look_at(space, _corners(space))
    wrong = [*found.form, *([] if space.has_holes else found.as_errors())]
    return [p for p in wrong if not any(p.path == path or p.path.startswith(f"{path}.") for path in hidden)]


def _corners(space: Space) -> Iterator[Drawn]:
    return space_samples(space.fill) if space.has_holes else iter([space.fill(Corner({}))])


@dataclass
class _Findings:
    """What was found at drawn points.

    Attributes:
        form: the problems that no draw can cure, each once.
        combinations: those of combinations of values, the first of each path.
        example: the first invalid point.
        invalid: how many points are invalid.
        valid: how many are not.
    """

    form: dict[Problem, None] = field(default_factory=dict)
    combinations: dict[str, Problem] = field(default_factory=dict)
    example: tuple[Drawn, list[Problem]] | None = None
    invalid: int = 0
    valid: int = 0

    def as_errors(self) -> list[Problem]:
        """The problems of combinations, as ones that no draw can cure."""
        return [replace(problem, form=True) for problem in self.combinations.values()]

    def look_at(self, space: Space, points: Iterable[Drawn]) -> None:
        """Count points, until there is more wrong than anybody reads."""
        for drawn in points:
            problems = _problems_of(space, drawn)
            self.invalid += bool(problems)
            self.valid += not problems
            if problems and self.example is None:
                self.example = (drawn, problems)
            for problem in problems:
                if problem.form:
                    self.form[problem] = None
                else:
                    self.combinations.setdefault(problem.path, problem)
            if len(self.form) >= MAX_PROBLEMS:
                return


def _drawn_problems(space: Space) -> list[Problem]:
    """What is wrong at drawn points: every option of every choice once, both ends of every range, and random ones.

    A problem of form is an error wherever it is found. A problem of combination is an error where every draw has one,
    and elsewhere a warning with an example.
    """
    corner, sampled = _Findings(), _Findings()
    corner.look_at(space, _corners(space))
    if corner.form:
        # Without holes there is one draw, and what it combines wrongly is as wrong as the rest.
        return [*corner.form, *([] if space.has_holes else corner.as_errors())]
    rng = random.Random(0)
    sampled.look_at(space, (space.fill(AtRandom(rng)) for _ in range(SAMPLED_DRAWS if space.has_holes else 0)))
    example = sampled.example or corner.example
    if sampled.form or example is None:
        return list(sampled.form)
    if not corner.valid + sampled.valid:
        sampled.combinations.update(corner.combinations)
        return sampled.as_errors()
    drawn, problems = example
    reason = "; ".join(": ".join(filter(None, (p.path, p.message))) for p in problems[:2])
    rate = f"{sampled.invalid} of {SAMPLED_DRAWS} sampled draws" if sampled.invalid else "at a corner"
    text = f"a region is invalid ({rate}), for example {_example(drawn)}: {reason}"
    return [Problem("", text, form=False)]


def _example(drawn: Drawn) -> str:
    parts = [f"{path}={value if str(value).isprintable() else shown(value)}" for path, value in drawn.params.items()]
    return ", ".join(parts[:MAX_NAMES]) + (", …" if len(parts) > MAX_NAMES else "")


def _problems_of(space: Space, drawn: Drawn) -> list[Problem]:
    recipe, problems = Recipe.examine(drawn.raw, drawn.of_0_1)
    if recipe is not None and not any(p.path.startswith(("retrain", "mask.at")) for p in problems):
        try:
            epoch = known_epoch(recipe)
            if epoch is not None:
                resolve(recipe, epoch)
        except UserError as error:
            problems += [p for p in error.problems if p.path not in {known.path for known in problems}]
    if recipe is not None and is_sharded(space.search):
        problems += sharding_problems(recipe)
    return [replace(p, path=space.written.place(drawn.option, p.path) if p.path else "") for p in problems]


def nominal_epoch(data: Any, batch: Any, examples: int = 0, accumulate: Any = None) -> int:
    """Iterations in an epoch as far as it is known while a recipe is drawn; at least 1.

    Args:
        data: ``task.data`` as written; None for the default.
        batch: ``train.batch`` as written; None for the default.
        examples: training examples where they are known otherwise.
        accumulate: ``train.accumulate`` as written; None for the default.
    """
    data = TASK["data"].default if data is None else data
    batch = TRAIN["batch"].default if batch is None else batch
    examples = examples or source_of(data).train_examples
    if not examples or isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        return NOMINAL_EPOCH
    together = accumulate if isinstance(accumulate, int) and accumulate > 1 else 1
    return max(1, examples // (batch * together))


def known_epoch(recipe: Recipe) -> int | None:
    """Iterations in an epoch where the data set's size is known before it is read, else None.

    Raises:
        UserError: the batch is larger than the training set.
    """
    examples = recipe.task.source.train_examples
    return recipe_epoch(recipe, examples) if examples else None


def recipe_epoch(recipe: Recipe, examples: int) -> int:
    """Iterations in an epoch of a recipe: ⌊examples / (batch * accumulate)⌋.

    Args:
        recipe: with the batch.
        examples: in the training set; 0: a stream that does not say it, whose epoch is `STREAM_EPOCH`.

    Raises:
        UserError: a step takes more examples than there are.
    """
    train = recipe.train
    if not examples:
        return STREAM_EPOCH
    if train.step_examples > examples >= train.batch:
        text = f"{train.accumulate} batches of {train.batch} are more than the training set of {examples} examples"
        raise UserError([Problem("train.accumulate", text, form=False)])
    return epoch_length(examples, train.batch) // train.accumulate


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
        # Any folder can have a preset's name; one without a recipe does not hide the preset.
        exists = path.exists() or target not in axes.PRESETS
    if exists or (target not in axes.PRESETS and (path.suffix in (".yaml", ".yml") or "/" in target)):
        try:
            return strict_yaml.load_file(path), str(path)
        except UserError as error:
            raise error.of(str(path)) from None
    if target in axes.PRESETS:
        return {"preset": target}, target
    message = f"is neither a file nor a preset{suggestion(target, axes.PRESETS)}: {not_one_of(target, axes.PRESETS)}"
    raise UserError([Problem("", message, target)])
