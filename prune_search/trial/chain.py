"""w(k) → f1 → f2 → f3, in rounds: the stretches of a recipe and what lies between them.

Every event has a content address: that of what it rests on, and a description of what it does. So two trials that share
a beginning share its stored states, and a round that is stored is not computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

from torch import Tensor

from prune_search.pruning.counts import keep_share
from prune_search.pruning.finding import MaskRule, find_mask, with_control
from prune_search.pruning.keeper import MaskKeeper, masks_of
from prune_search.pruning.masks import MaskSet
from prune_search.pruning.setting import Moving, Phase, Setting
from prune_search.recipe import axes
from prune_search.recipe.clock import train_rate
from prune_search.recipe.recipe import Named, digest_of
from prune_search.tasks.network import prunable_weights
from prune_search.training.loop import Course
from prune_search.training.stretch import MODEL, Stretch, Vault, load_model, model_tensors
from prune_search.trial.bench import Bench
from prune_search.trial.evidence import evidence

Tensors = Mapping[str, Tensor]


def first_trajectory(bench: Bench, vault: Vault) -> Stretch:
    """Training from w(0), as far as k1 and k2 ask."""
    line = bench.timeline

    def course() -> Course:
        optimizer = bench.optimizer(bench.recipe.optimizer)
        return Course(optimizer, bench.feed(), 0, train_rate(bench.recipe, line.epoch), ())

    asked = {line.k1, line.trained} | ({line.k2} if line.k2 is not None else set())
    # With train.from the given weights are w(K): a stretch of no steps that begins where it ends.
    total = 0 if "from" in bench.recipe.train else line.total
    begin = bench.start
    return Stretch(
        "train", bench.root(), total, lambda: begin, course, bench.network, vault, tuple(sorted(asked)), True
    )


@dataclass
class Round:
    """One round: f1, f2 and f3 on the trajectory before it.

    Attributes:
        bench: the recipe, the data and the network.
        vault: where states are stored.
        number: r, from 1.
        first: trajectory 1.
        source: the current trajectory, on which the mask is found.
        before: the round before, or None.
    """

    bench: Bench
    vault: Vault
    number: int
    first: Stretch
    source: Stretch
    before: Round | None

    @property
    def last(self) -> bool:
        return self.number == self.bench.recipe.rounds

    @cached_property
    def share(self) -> Decimal:
        """Kept share of the units in scope that this round asks for."""
        return keep_share(self.bench.recipe.mask["sparsity"], self.number, self.bench.recipe.rounds)

    @cached_property
    def rule(self) -> MaskRule:
        """The mask block; its control acts in the last round only."""
        mask = dict(self.bench.recipe.mask)
        if not self.last or self.moves:
            mask.pop("control", None)
        return MaskRule.of(mask)

    @property
    def moves(self) -> bool:
        """Whether the retraining moves the mask."""
        return "dynamics" in (self.bench.recipe.retrain or {})

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The weights that take part."""
        names = tuple(prunable_weights(self.bench.model))
        left_out = (
            None if self.rule.granularity.entry(axes.GRANULARITIES).facts["output_layer"] else self.bench.output_layer
        )
        return tuple(name for name in names if name != left_out)

    @property
    def _k1(self) -> int:
        return self.bench.timeline.k1 if self.number == 1 else self.source.total

    def _source_state(self) -> Tensors:
        at = self.source.end() if self.bench.recipe.mask["at"] == "end" else self.source.at(self._k1)
        return at.tensors

    # --- mask.prepare -------------------------------------------------------------------------------------------

    @cached_property
    def prepared(self) -> tuple[Stretch, Decimal] | None:
        """The stretch of ``mask.prepare``, and the penalty that it leaves on every weight."""
        if "prepare" not in self.bench.recipe.mask:
            return None
        named = Named.of(axes.TRANSFORMS, self.bench.recipe.mask["prepare"])
        address = digest_of({"kind": "prepare", "source": self.source.address, "at": self._k1, "entry": named.written})

        def phase() -> Phase:
            return self._phase(named, "mask.prepare", None, Decimal(0))

        def begin() -> Tensors:
            return _model_only(self._source_state())

        stretch = self._phase_stretch("prepare", address, (phase().total, phase), begin, "mask.prepare")
        return stretch, Decimal(repr(named.options["until"])) if "until" in named.options else Decimal(0)

    def _phase(self, named: Named, place: str, masks: MaskSet | None, penalty: Decimal) -> Phase:
        phase: Phase = named.entry(axes.TRANSFORMS).make(self._setting(place, masks, penalty), **named.options)
        return phase

    def _setting(self, place: str, masks: MaskSet | None, penalty: Decimal = Decimal(0)) -> Setting:
        words = (place, self.number)
        return Setting(
            network=self.bench.network,
            masks=masks,
            rule=self.rule,
            layers=self.layers,
            init=self.bench.recipe.named(axes.INITS, "train", "init"),
            seed=self.bench.recipe.seed,
            words=words,
            feed=lambda: self.bench.feed(*words),
            penalty=penalty,
        )

    def _phase_stretch(
        self, name: str, address: str, phase: tuple[int, Callable[[], Phase]], begin: Any, place: str
    ) -> Stretch:
        total, make = phase

        def course() -> Course:
            made = make()
            optimizer = self.bench.optimizer(made.optimizer)
            hooks = list(made.hooks())
            if self.before is not None:
                # What an earlier round removed stays removed while this one's transforms train.
                hooks.append(MaskKeeper(self.bench.model, self.before.masks, optimizer).hook())
            return Course(optimizer, self.bench.feed(place, self.number), 0, made.rate, hooks)

        label = f"{name} (round {self.number})" if self.bench.recipe.rounds > 1 else name
        return Stretch(label, address, total, begin, course, self.bench.network, self.vault, (total,))

    # --- f1 -----------------------------------------------------------------------------------------------------

    @cached_property
    def mask_address(self) -> str:
        """Everything that the mask depends on."""
        mask = self.bench.recipe.mask
        parts = {key: mask[key] for key in ("criterion", "score", "scope", "granularity")}
        parts["control"] = self.rule.control.written if self.rule.control else None
        prepared = self.prepared[0].address if self.prepared else None
        previous = self.before.mask_address if self.before else None
        source = {"kind": "mask", "source": self.source.address, "at": self._k1, "prepared": prepared}
        return digest_of({**source, "mask": parts, "share": str(self.share), "previous": previous})

    @cached_property
    def found(self) -> MaskSet:
        """f1: the mask that is found on w(k1)."""
        state = self.prepared[0].end().tensors if self.prepared else self._source_state()
        load_model(self.bench.model, state)
        previous = (self.before.masks, self.before.share) if self.before else None
        return find_mask(self.bench.model, self.rule, self.share, previous, evidence(self.bench, self.number))

    # --- f2 -----------------------------------------------------------------------------------------------------

    def _weights(self) -> Tensors:
        """w(k2)."""
        at = self.bench.recipe.weights["at"]
        if at == "prepared" and self.prepared is not None:
            return self.prepared[0].end().tensors
        if at == "end":
            return self.source.end().tensors
        line = self.bench.timeline
        return self.first.at(line.k1 if line.k2 is None else line.k2).tensors

    @cached_property
    def _transformed(self) -> tuple[str, Any]:
        """(address, lazily the weights) of f2(w(k2), m), before the mask is applied."""
        at = self.bench.recipe.weights["at"]
        place = self.source.address if at == "end" else f"{self.first.address}@{self.bench.timeline.k2}"
        if at == "prepared" and self.prepared is not None:
            place = self.prepared[0].address
        address = digest_of({"kind": "weights", "mask": self.mask_address, "from": place})
        weights: Any = self._weights
        penalty = self.prepared[1] if self.prepared and at == "prepared" else Decimal(0)
        for index, named in enumerate(self.bench.recipe.transforms):
            path = f"weights.transform.{index}"
            parts = {"kind": "transform", "from": address, "entry": named.written, "round": self.number}
            address = digest_of({**parts, "init": self.bench.recipe.train["init"], "place": path})
            weights = self._next(named, path, address, weights, penalty)
        return address, weights

    def _next(self, named: Named, path: str, address: str, weights: Any, penalty: Decimal) -> Any:
        if named.entry(axes.TRANSFORMS).facts["trains"]:
            total = self._phase(named, path, None, penalty).total
            phase = (total, lambda: self._phase(named, path, self.found, penalty))
            stretch = self._phase_stretch(named.name, address, phase, lambda: _model_only(weights()), path)
            self._phases.append(stretch)
            return lambda: stretch.end().tensors

        def changed() -> Tensors:
            masks = self.found
            load_model(self.bench.model, weights())
            named.entry(axes.TRANSFORMS).make(self._setting(path, masks), **named.options)
            return model_tensors(self.bench.model)

        return changed

    @cached_property
    def _phases(self) -> list[Stretch]:
        return []

    def _pruned(self, masks: MaskSet) -> Tensors:
        """w' = m ⊙ f2(w(k2), m)."""
        load_model(self.bench.model, self._transformed[1]())
        masks.apply(self.bench.model)
        return model_tensors(self.bench.model)

    # --- f3 -----------------------------------------------------------------------------------------------------

    @cached_property
    def retraining(self) -> Stretch:
        """f3, or a stretch of no steps where there is none."""
        return self._retraining("retrain", self._transformed[0], self.moves)

    @cached_property
    def controlled(self) -> Stretch | None:
        """With dynamics and a control: a static mask of the moved mask's final counts, trained from w(k2)."""
        if not (self.moves and self.last and "control" in self.bench.recipe.mask):
            return None
        parts = {"kind": "control", "moved": self.retraining.address, "control": self.bench.recipe.mask["control"]}
        return self._retraining("retrain (control)", digest_of(parts), False)

    def _retraining(self, name: str, address: str, moves: bool) -> Stretch:
        bench, line, retrain = self.bench, self.bench.timeline, self.bench.recipe.retrain or {}
        parts = {key: value for key, value in retrain.items() if key not in ("steps", "until", "dynamics")}
        if moves:
            parts["dynamics"] = retrain["dynamics"]
            parts["share"] = str(self.share)
        # The clock's schedule is in the root's address; places on it are resolved.
        parts.update(steps=line.retrain_steps, clock=line.clock if line.clock is not None else parts.get("clock"))
        label = f"{name} (round {self.number})" if bench.recipe.rounds > 1 else name
        return Stretch(
            label,
            digest_of({"kind": "retrain", "from": address, "retrain": parts, "first": self.first.address}),
            line.retrain_steps,
            lambda: self._retrain_start(moves),
            lambda: self._retrain_course(moves),
            bench.network,
            self.vault,
            (line.retrain_steps,),
        )

    def _static_masks(self, moves: bool) -> MaskSet:
        """The mask that the retraining starts with."""
        if self.moves and not moves:
            return with_control(self.moved, MaskRule.of(self.bench.recipe.mask), self.bench.recipe.seed)
        return self.found

    def _retrain_start(self, moves: bool) -> Tensors:
        return self._pruned(self._static_masks(moves))

    def _retrain_course(self, moves: bool) -> Course:
        bench, line, retrain = self.bench, self.bench.timeline, self.bench.recipe.retrain
        named = Named.of(axes.OPTIMIZERS, retrain["optimizer"]) if retrain else bench.recipe.optimizer
        optimizer = bench.optimizer(named)
        keeper = MaskKeeper(bench.model, self._static_masks(moves), optimizer)
        hooks = [keeper.hook()]
        if moves and retrain is not None:
            dynamics = Named.of(axes.DYNAMICS, retrain["dynamics"])
            number = self.number

            def at(step: int) -> Any:
                return evidence(bench, number, "dynamics", step)

            total, rule = line.retrain_steps, self.rule
            moving = Moving(bench.network, keeper, optimizer, rule, self.share, total, line.epoch, at)
            # The dynamics comes first: it sees the gradients of masked weights.
            hooks.insert(0, dynamics.entry(axes.DYNAMICS).make(moving, **dynamics.options))
        return Course(optimizer, bench.feed(), line.order_from, line.rate, hooks)

    @cached_property
    def result(self) -> Tensors:
        """w*: the last state, with the mask that it was trained under."""
        stretch = self.controlled or self.retraining
        return stretch.end().tensors

    @cached_property
    def moved(self) -> MaskSet:
        """The mask at the end of a retraining that moves it."""
        return self._stored_masks(self.retraining.end().tensors)

    @cached_property
    def masks(self) -> MaskSet:
        """The mask at the end of the round."""
        return self._stored_masks(self.result)

    def _stored_masks(self, tensors: Tensors) -> MaskSet:
        prefix = "hook/mask/"
        own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        return masks_of(own, list(prunable_weights(self.bench.model))) if own else self.found

    def settled(self) -> int:
        """The step of the retraining from which the mask has the asked sparsity."""
        retrain = self.bench.recipe.retrain
        if not self.moves or retrain is None or self.controlled is not None:
            return 0
        dynamics = Named.of(axes.DYNAMICS, retrain["dynamics"])
        settles = dynamics.entry(axes.DYNAMICS).facts["settles"]
        return int(settles(self.bench.timeline.retrain_steps, self.bench.timeline.epoch, **dynamics.options))

    # --- the account --------------------------------------------------------------------------------------------

    def needed(self) -> int:
        """Steps that this round asks for, whoever trained them."""
        _ = self._transformed
        steps = self.retraining.length + (self.controlled.length if self.controlled else 0)
        if self.prepared is not None:
            steps += self.prepared[0].known_length()
        return steps + sum(stretch.known_length() for stretch in self._phases)


def _model_only(tensors: Tensors) -> Tensors:
    """The weights and buffers of a state; a phase starts with optimizer buffers at zero."""
    return {key: value for key, value in tensors.items() if key.startswith(MODEL)}


def rounds_of(bench: Bench, vault: Vault) -> tuple[Stretch, list[Round]]:
    """Trajectory 1 and the rounds of a recipe. Nothing is trained yet."""
    first = first_trajectory(bench, vault)
    rounds: list[Round] = []
    source, before = first, None
    for number in range(1, bench.recipe.rounds + 1):
        before = Round(bench, vault, number, first, source, before)
        rounds.append(before)
        source = before.retraining
    return first, rounds
