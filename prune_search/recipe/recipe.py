"""A recipe: one trial as data. Typed views over the canonical form, and the canonical form's bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

from prune_search.recipe import axes
from prune_search.recipe.blocks import Mask, Retrain, Task, Train, Weights
from prune_search.recipe.fields import child
from prune_search.recipe.named import Named
from prune_search.recipe.plain_data import Plain
from prune_search.recipe.problems import Problem, UserError, not_one_of, shown
from prune_search.recipe.reading import Reading
from prune_search.recipe.registry import AnyAxis
from prune_search.recipe.rules import check_rules
from prune_search.recipe.schema import BLOCKS, SCHEMA, is_user_code, read_blocks
from prune_search.recipe.training_options import DENSE, TrainingOptions


def canonical_json(data: object) -> str:
    """The one JSON text of plain data: sorted keys, no spaces, no NaN, only ASCII."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest_of(data: object) -> str:
    """sha256 of the canonical JSON of plain data, in hex."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()


@dataclass(frozen=True)
class Recipe:
    """One trial as data, canonical: every default is written out, and presets and holes are gone.

    Build one with `Recipe.read`, or `Recipe.from_canonical` where this program wrote it. `blocks` holds plain data and
    must not be changed; `task`, `train`, `mask`, `weights` and `retrain` are the same, read once.
    """

    blocks: Mapping[str, Any]

    @classmethod
    def read(cls, raw: Mapping[str, object], of_0_1: bool = False) -> Recipe:
        """Read whole blocks (see `merge.expand`) without holes.

        Args:
            raw: the blocks.
            of_0_1: what is left out means what it meant to version 0.1.

        Raises:
            UserError: with everything that is wrong.
        """
        recipe, problems = cls.examine(raw, of_0_1)
        if problems or recipe is None:
            raise UserError(problems)
        return recipe

    @classmethod
    def from_canonical(cls, canonical: Mapping[str, object]) -> Recipe:
        """Read what `canonical` gave, in this process or in a ledger: it was checked then, and is not checked anew.

        Args:
            canonical: the blocks; keys that are no block are passed over.

        Raises:
            UserError: this version has not written it, or a plug-in that it names is missing here.
        """
        if newer := newer_schema(canonical):
            raise UserError([newer])
        try:
            recipe = cls(MappingProxyType({block: canonical[block] for block in BLOCKS}))
            # Whatever is missing shows here, and not in the middle of a trial.
            _ = recipe.task, recipe.train, recipe.mask, recipe.weights, recipe.retrain
        except (KeyError, TypeError, ValueError) as error:
            text = f"is not a recipe as prune-search writes one ({type(error).__name__}: {error})"
            raise UserError([Problem("", text)]) from None
        return recipe

    @classmethod
    def examine(cls, raw: Mapping[str, object], of_0_1: bool = False) -> tuple[Recipe | None, list[Problem]]:
        """A recipe and everything that is wrong with it.

        Returns:
            None for the recipe where a part could not be read. What can be said of the other parts is said even so; a
            recipe whose parts are well but do not go together can still be placed on its clock, to say more.
        """
        if newer := newer_schema(raw):
            return None, [newer]
        reading = Reading(partial=True, of_0_1=of_0_1)
        check_top_level(raw, reading)
        blocks = read_blocks(_with_default_init(_with_default_model(raw)), reading)
        whole = not reading.problems
        reading.problems += check_rules(blocks)
        return cls(MappingProxyType(blocks)) if whole else None, reading.problems

    @property
    def canonical(self) -> dict[str, Plain]:
        """The canonical form, with its schema number."""
        return {"schema": SCHEMA, **self.blocks}

    def starting_from(self, start: Plain, teacher: Plain = True) -> dict[str, Plain]:
        """The canonical form with something else in the places where files are named; the same where none is.

        Args:
            start: in the place of ``train.from``.
            teacher: in the place of the folder at ``retrain.loss.teacher``.
        """
        canonical = self.canonical
        train = self.blocks["train"]
        # Without reading the block, which a key does not need.
        if isinstance(train, Mapping) and "from" in train:
            canonical["train"] = {**train, "from": start}
        retrain = self.blocks["retrain"]
        loss = retrain.get("loss") if isinstance(retrain, Mapping) else None
        if isinstance(loss, Mapping) and isinstance(retrain, Mapping) and loss.get("teacher", DENSE) != DENSE:
            canonical["retrain"] = {**retrain, "loss": {**loss, "teacher": teacher}}
        return canonical

    def named(self, axis: AnyAxis, block: str, key: str) -> Named:
        """The registered value at ``block.key``."""
        return Named.of(axis, self.blocks[block][key])

    @property
    def seed(self) -> int:
        return self.task.seed

    @property
    def rounds(self) -> int:
        rounds: int = self.blocks["rounds"]
        return rounds

    @cached_property
    def task(self) -> Task:
        """What is trained, on what."""
        return Task.of(self.blocks["task"])

    @cached_property
    def train(self) -> Train:
        """The training clock, and how trajectory 1 is trained."""
        return Train.of(self.blocks["train"])

    @cached_property
    def mask(self) -> Mask:
        """f1."""
        return Mask.of(self.blocks["mask"])

    @cached_property
    def weights(self) -> Weights:
        """f2."""
        return Weights.of(self.blocks["weights"])

    @cached_property
    def retrain(self) -> Retrain | None:
        """f3, or None where the recipe says ``none``."""
        return None if self.blocks["retrain"] == "none" else Retrain.of(self.blocks["retrain"])

    @cached_property
    def retrain_options(self) -> TrainingOptions:
        """What holds in retrainings: train's options, and retrain's own over them."""
        return TrainingOptions.of(self.train.written, None if self.retrain is None else self.retrain.written)

    @property
    def optimizer(self) -> Named:
        """Of trajectory 1."""
        return self.train.optimizer

    @property
    def transforms(self) -> tuple[Named, ...]:
        """What the kept weights go through."""
        return self.weights.transforms

    def key(self, digests: Mapping[str, str]) -> str:
        """The recipe's content address: 64 hex digits.

        Args:
            digests: of what the recipe only names: ``network`` (names, shapes, dtypes and bytes of w(0), or of w(K)
                for ``train.from``, and the source of a user's factory) and ``data`` (arrays and split).
        """
        # Of given weights the bytes count, not where they lie; they are in the digest of the network.
        return digest_of({"recipe": self.starting_from(True), "digests": dict(digests)})


def newer_schema(raw: Mapping[str, object]) -> Problem | None:
    """The one thing to say of a file of a newer version, whose other keys this version cannot judge."""
    schema = raw.get("schema", SCHEMA)
    if isinstance(schema, bool) or not isinstance(schema, int) or schema <= SCHEMA:
        return None
    text = f"{shown(schema)} was written by a newer prune-search; this one reads up to {SCHEMA}: upgrade prune-search"
    return Problem("schema", text)


def check_top_level(raw: Mapping[str, object], reading: Reading) -> None:
    """Unknown blocks, and a schema that is no number of one."""
    known = ("schema", *BLOCKS)
    for key in raw:
        if key not in known:
            reading.wrong(child("", key), not_one_of(key, (*known, "preset", "any", "search")))
    schema = raw.get("schema", SCHEMA)
    if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
        reading.wrong("schema", f"must be {SCHEMA} (got {shown(schema)})")


def _with_default_model(raw: Mapping[str, object]) -> Mapping[str, object]:
    """The default model is convolutional where the mask needs filters, channels or BatchNorm, or has what it prunes."""
    task, mask = raw.get("task", {}), raw.get("mask", {})
    if not isinstance(task, Mapping) or "model" in task or not isinstance(mask, Mapping):
        return raw

    def name(value: object) -> object:
        return value.get("name") if isinstance(value, Mapping) else value

    granularity = axes.GRANULARITIES.get(str(name(mask.get("granularity", "weight"))))
    if granularity is not None and granularity.facts.default_model:
        return {**raw, "task": {**task, "model": granularity.facts.default_model}}
    structured = granularity is not None and granularity.facts.convolutional_default
    criterion = axes.CRITERIA.get(str(name(mask.get("criterion"))))
    convolutional = structured or (criterion is not None and criterion.facts.convolutional_default)
    return {**raw, "task": {**task, "model": "small-conv"}} if convolutional else raw


def _with_default_init(raw: Mapping[str, object]) -> Mapping[str, object]:
    """The networks of other libraries, and those of a task that brings its own, begin as they are built by default."""
    task, train = raw.get("task", {}), raw.get("train", {})
    if not isinstance(task, Mapping) or not isinstance(train, Mapping) or "init" in train:
        return raw
    model = task.get("model")
    name = model.get("name") if isinstance(model, Mapping) else model
    of_another = isinstance(name, str) and name.partition("/")[0] in axes.MODELS.families
    of_its_task = is_user_code(model) and model == task.get("data")
    return {**raw, "train": {**train, "init": "as-built"}} if of_another or of_its_task else raw


__all__ = ["Named", "Recipe", "canonical_json", "check_top_level", "digest_of", "newer_schema"]
