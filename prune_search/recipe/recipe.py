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
from prune_search.recipe.fields import Reading, canonical_default, child
from prune_search.recipe.problems import Problem, UserError, not_one_of, shown
from prune_search.recipe.registry import AnyAxis, Axis, Declared, Entry, Made
from prune_search.recipe.rules import check_rules
from prune_search.recipe.schema import BLOCKS, SCHEMA, read_blocks


@dataclass(frozen=True)
class Named:
    """A registered value with all its options.

    Attributes:
        name: the value's name.
        options: every option, canonical; those that can be absent are left out where they are.
        written: the canonical form that a file has.
    """

    name: str
    options: Mapping[str, Any]
    written: Any

    @classmethod
    def of(cls, axis: AnyAxis, written: Any) -> Named:
        given = {"name": written} if isinstance(written, str) else dict(written)
        name = given.pop("name")
        entry = axis[name]
        defaults = {k: canonical_default(o) for k, o in entry.options.items() if o.later and o.default is not None}
        return cls(name, MappingProxyType({**defaults, **given}), written)

    def entry(self, axis: Axis[Declared, Made]) -> Entry[Declared, Made]:
        return axis[self.name]


def canonical_json(data: Any) -> str:
    """The one JSON text of plain data: sorted keys, no spaces, no NaN, only ASCII."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest_of(data: Any) -> str:
    """sha256 of the canonical JSON of plain data, in hex."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()


@dataclass(frozen=True)
class Recipe:
    """One trial as data, canonical: every default is written out, and presets and holes are gone.

    Build one with `Recipe.read`; `blocks` holds plain data and must not be changed.
    """

    blocks: Mapping[str, Any]

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Recipe:
        """Read whole blocks (see `merge.expand`) without holes.

        Raises:
            UserError: with everything that is wrong.
        """
        recipe, problems = cls.examine(raw)
        if problems or recipe is None:
            raise UserError(problems)
        return recipe

    @classmethod
    def examine(cls, raw: Mapping[str, Any]) -> tuple[Recipe | None, list[Problem]]:
        """A recipe and everything that is wrong with it.

        Returns:
            None for the recipe where a part could not be read. What can be said of the other parts is said even so; a
            recipe whose parts are well but do not go together can still be placed on its clock, to say more.
        """
        if newer := newer_schema(raw):
            return None, [newer]
        reading = Reading(partial=True)
        check_top_level(raw, reading)
        blocks = read_blocks(_with_default_model(raw), reading)
        whole = not reading.problems
        reading.problems += check_rules(blocks)
        return cls(MappingProxyType(blocks)) if whole else None, reading.problems

    @property
    def canonical(self) -> dict[str, Any]:
        """The canonical form, with its schema number."""
        return {"schema": SCHEMA, **self.blocks}

    def named(self, axis: AnyAxis, block: str, key: str) -> Named:
        """The registered value at ``block.key``."""
        return Named.of(axis, self.blocks[block][key])

    @property
    def seed(self) -> int:
        seed: int = self.blocks["task"]["seed"]
        return seed

    @property
    def rounds(self) -> int:
        rounds: int = self.blocks["rounds"]
        return rounds

    @property
    def train(self) -> Mapping[str, Any]:
        train: Mapping[str, Any] = self.blocks["train"]
        return train

    @property
    def mask(self) -> Mapping[str, Any]:
        mask: Mapping[str, Any] = self.blocks["mask"]
        return mask

    @property
    def weights(self) -> Mapping[str, Any]:
        weights: Mapping[str, Any] = self.blocks["weights"]
        return weights

    @property
    def retrain(self) -> Mapping[str, Any] | None:
        """The retraining, or None where the recipe says ``none``."""
        retrain: Any = self.blocks["retrain"]
        return None if retrain == "none" else retrain

    @cached_property
    def optimizer(self) -> Named:
        return self.named(axes.OPTIMIZERS, "train", "optimizer")

    @cached_property
    def transforms(self) -> tuple[Named, ...]:
        return tuple(Named.of(axes.TRANSFORMS, written) for written in self.weights["transform"])

    def key(self, digests: Mapping[str, str]) -> str:
        """The recipe's content address: 64 hex digits.

        Args:
            digests: of what the recipe only names: ``network`` (names, shapes, dtypes and bytes of w(0), or of w(K)
                for ``train.from``, and the source of a user's factory) and ``data`` (arrays and split).
        """
        canonical = self.canonical
        if "from" in self.train:
            # The bytes count, not where they lie; they are in the digest of the network.
            canonical["train"] = {**self.train, "from": True}
        return digest_of({"recipe": canonical, "digests": dict(digests)})


def newer_schema(raw: Mapping[str, Any]) -> Problem | None:
    """The one thing to say of a file of a newer version, whose other keys this version cannot judge."""
    schema = raw.get("schema", SCHEMA)
    if isinstance(schema, bool) or not isinstance(schema, int) or schema <= SCHEMA:
        return None
    text = f"{shown(schema)} was written by a newer prune-search; this one reads up to {SCHEMA}: upgrade prune-search"
    return Problem("schema", text)


def check_top_level(raw: Mapping[str, Any], reading: Reading) -> None:
    """Unknown blocks, and a schema that is no number of one."""
    known = ("schema", *BLOCKS)
    for key in raw:
        if key not in known:
            reading.wrong(child("", key), not_one_of(key, (*known, "preset", "any", "search")))
    schema = raw.get("schema", SCHEMA)
    if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
        reading.wrong("schema", f"must be {SCHEMA} (got {shown(schema)})")


def _with_default_model(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The default model is convolutional where the mask needs filters, channels or BatchNorm."""
    task, mask = raw.get("task", {}), raw.get("mask", {})
    if not isinstance(task, Mapping) or "model" in task or not isinstance(mask, Mapping):
        return raw

    def name(value: Any) -> Any:
        return value.get("name") if isinstance(value, Mapping) else value

    granularity = axes.GRANULARITIES.get(str(name(mask.get("granularity", "weight"))))
    structured = granularity is not None and granularity.facts.convolutional_default
    criterion = axes.CRITERIA.get(str(name(mask.get("criterion"))))
    convolutional = structured or (criterion is not None and criterion.facts.convolutional_default)
    return {**raw, "task": {**task, "model": "small-conv"}} if convolutional else raw
