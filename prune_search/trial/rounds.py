"""w(k) → f1 → f2 → f3, in rounds: the stretches of a recipe and what lies between them.

Every event has a content address: that of what it rests on, and a description of what it does. So two trials that share
a beginning share its stored states, and a round that is stored is not computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property

from torch import Tensor

from prune_search.pruning.mask.counts import exact, share_after
from prune_search.pruning.mask.finder import find_mask, units_in
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.mask.rule import MaskRule
from prune_search.pruning.mask.score_training import learned_scores
from prune_search.pruning.mask.variants import decided_share, with_control
from prune_search.pruning.retrain.mask_keeper import MaskKeeper, masks_of
from prune_search.pruning.weights.context import Setting
from prune_search.recipe import axes
from prune_search.recipe.clock import Lasting, train_rate
from prune_search.recipe.recipe import Named
from prune_search.tasks.network import prunable_weights
from prune_search.training.loop import Course, Network
from prune_search.training.phase import Phase
from prune_search.training.segment import MODEL, Stretch, Vault, load_model, model_tensors
from prune_search.trial.addresses import Adjustment, Branch, RoundBranch, Vertex, branch_of
from prune_search.trial.retraining import retrain_course, retraining_of, settles_at
from prune_search.trial.score_training import learning
from prune_search.trial.scoring_data import evidence
from prune_search.trial.setup import Bench
from prune_search.trial.stability import stable_place

Tensors = Mapping[str, Tensor]


def first_trajectory(bench: Bench, vault: Vault, branch: Branch) -> Stretch:
    """Training from w(0), as far as k1 and k2 ask."""
    line = bench.timeline

    def course() -> Course:
        optimizer = bench.optimizer(bench.recipe.optimizer)
        return Course(optimizer, bench.feed(), 0, train_rate(bench.recipe, line.epoch), ())

    asked = {line.k1} | ({line.k2} if line.k2 is not None else set())
    begin = bench.start
    return _stretch(bench, vault, "train", branch.train, (lambda: begin, course), asked, grid=True)


def _stretch(
    bench: Bench,
    vault: Vault,
    name: str,
    vertex: Vertex,
    how: tuple[Callable[[], Tensors], Callable[[], Course]],
    asked: Collection[int] = (),
    grid: bool = False,
    network: Network | None = None,
) -> Stretch:
    """A vertex as a stretch of this trial's network; `how` is where it begins and how it is trained."""
    begin, course = how
    wanted = tuple(sorted({*asked, vertex.needed}))
    net = network or bench.network
    return Stretch(name, vertex.address, vertex.steps, begin, course, net, vault, wanted, grid, place=vertex.place)


@dataclass
class Round:
    """One round: f1, f2 and f3 on the trajectory before it.

    Attributes:
        bench: the recipe, the data and the network.
        vault: where states are stored.
        branch: the round's addresses.
        first: trajectory 1.
        source: the current trajectory, on which the mask is found.
        before: the round before, or None.
    """

    bench: Bench
    vault: Vault
    branch: RoundBranch
    first: Stretch
    source: Stretch
    before: Round | None

    @property
    def number(self) -> int:
        """r, from 1."""
        return self.branch.number

    @cached_property
    def share(self) -> Decimal:
        """Kept share of the units in scope that this round asks for."""
        if self.branch.share is not None:
            return self.branch.share
        if self.learned_share:
            return 1 - exact(self.found.receipt().asked)
        return share_after(self._decided, self.number, self.bench.recipe.rounds)

    @property
    def learned_share(self) -> bool:
        """Whether how much is kept is learned."""
        return bool(self.bench.recipe.mask["sparsity"] == "learned")

    @cached_property
    def _decided(self) -> Decimal:
        """The kept share that a scope comes to which decides it, on the weights of the first round."""
        if self.before is not None:
            return self.before._decided
        load_model(self.bench.model, self._mask_state())
        return decided_share(self.bench.model, self.rule, evidence(self.bench, self.number))

    @property
    def last(self) -> bool:
        return self.number == self.bench.recipe.rounds

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
        sets = units_in(self.bench.model, self.rule, evidence(self.bench, self.number))
        owned = {part.parameter for one in sets for part in one.parts}
        return tuple(name for name in prunable_weights(self.bench.model) if name in owned)

    def _source_state(self) -> Tensors:
        if self.bench.recipe.mask["at"] == "end" or self.number > 1:
            return self.source.end().tensors
        return self.source.at(self.k1).tensors

    @cached_property
    def k1(self) -> int:
        """Where the mask of round 1 is found on trajectory 1: a place, or where it was stable first."""
        if not isinstance(self.bench.recipe.mask["at"], Mapping):
            return self.bench.timeline.k1
        return stable_place(self.bench, self.source, self.rule, self.share)

    @cached_property
    def lasting(self) -> Lasting:
        """How the retraining goes, which may depend on the mask."""
        line = self.bench.timeline
        if not line.open:
            return Lasting(line.retrain_steps, line.rate, line.order_from)
        return retraining_of(self.bench, self.k1, self.found)

    # --- mask.prepare -------------------------------------------------------------------------------------------

    @cached_property
    def prepared(self) -> Stretch | None:
        """The stretch of ``mask.prepare``."""
        if self.branch.prepare is None:
            return None
        named = Named.of(axes.TRANSFORMS, self.bench.recipe.mask["prepare"])

        def phase() -> Phase:
            return self._phase(named, "mask.prepare", None, Decimal(0))

        def begin() -> Tensors:
            return _model_only(self._source_state())

        return self._phase_stretch("prepare", self.branch.prepare, phase, begin, "mask.prepare")

    def _phase(self, named: Named, place: str, masks: MaskSet | None, penalty: Decimal) -> Phase:
        return named.entry(axes.TRANSFORMS).build(Phase, self._setting(place, masks, penalty), **named.options)

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
        self, name: str, vertex: Vertex, make: Callable[[], Phase], begin: Callable[[], Tensors], place: str
    ) -> Stretch:
        def course() -> Course:
            made = make()
            optimizer = self.bench.optimizer(made.optimizer)
            hooks = list(made.hooks())
            if self.before is not None:
                # What an earlier round removed stays removed while this one's transforms train.
                hooks.append(MaskKeeper(self.bench.model, self.before.masks, optimizer).hook())
            return Course(optimizer, self.bench.feed(place, self.number), 0, made.rate, hooks)

        return _stretch(self.bench, self.vault, self._label(name), vertex, (begin, course))

    def _label(self, name: str) -> str:
        return f"{name} (round {self.number})" if self.bench.recipe.rounds > 1 else name

    # --- f1 -----------------------------------------------------------------------------------------------------

    def _mask_state(self) -> Tensors:
        """w(k1), prepared where the recipe says so."""
        return self.prepared.end().tensors if self.prepared else self._source_state()

    @cached_property
    def learning(self) -> Stretch | None:
        """The stretch in which the criterion learns its scores."""
        if self.branch.learn is None:
            return None

        def asked() -> tuple[Decimal | None, MaskSet | None]:
            return None if self.learned_share else self.share, self.before.masks if self.before else None

        begin, course, network = learning(self.bench, self.rule, self.number, asked, self._mask_state)
        label = self._label(self.rule.criterion.name)
        return _stretch(self.bench, self.vault, label, self.branch.learn, (begin, course), network=network)

    @cached_property
    def found(self) -> MaskSet:
        """f1: the mask that is found on w(k1)."""
        share = None if self.learned_share else self.share
        shown = evidence(self.bench, self.number)
        if self.learning is not None:
            shown = replace(shown, learned=learned_scores(self.learning.end().tensors))
        load_model(self.bench.model, self._mask_state())
        previous = (self.before.masks, self.before.share) if self.before else None
        self.vault.steps.trained += self._scoring_steps
        return find_mask(self.bench.model, self.rule, share, previous, shown)

    @property
    def _scoring_steps(self) -> int:
        """Updates that the criterion trains while it scores."""
        facts = self.rule.criterion.entry(axes.CRITERIA).facts
        return int(facts.steps(self.bench.recipe.mask["score"], **self.rule.criterion.options))

    # --- f2 -----------------------------------------------------------------------------------------------------

    def _weights(self) -> Tensors:
        """w(k2), or the network that the mask was learned on where nothing is rewound."""
        if self.branch.goes_on and self.learning is not None:
            return _model_only(self.learning.end().tensors)
        at = self.bench.recipe.weights["at"]
        if at == "prepared" and self.prepared is not None:
            return self.prepared.end().tensors
        if at == "end":
            return self.source.end().tensors
        line = self.bench.timeline
        return self.first.at(self.k1 if at == "mask" or line.k2 is None else line.k2).tensors

    @cached_property
    def _transformed(self) -> Callable[[], Tensors]:
        """Lazily the weights f2(w(k2), m), before the mask is applied."""
        weights: Callable[[], Tensors] = self._weights
        for item in self.branch.adjustments:
            weights = self._next(item, weights)
        return weights

    def _next(self, item: Adjustment, weights: Callable[[], Tensors]) -> Callable[[], Tensors]:
        named, path = item.named, item.path
        if item.vertex is not None:

            def phase() -> Phase:
                return self._phase(named, path, self.found, item.penalty)

            stretch = self._phase_stretch(named.name, item.vertex, phase, lambda: _model_only(weights()), path)
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
        load_model(self.bench.model, self._transformed())
        masks.apply(self.bench.model)
        return model_tensors(self.bench.model)

    # --- f3 -----------------------------------------------------------------------------------------------------

    @cached_property
    def retraining(self) -> Stretch:
        """f3, or a stretch of no steps where there is none."""
        return self._retraining("retrain", self.branch.retrain, self.moves)

    @cached_property
    def controlled(self) -> Stretch | None:
        """With dynamics and a control: a static mask of the moved mask's final counts, trained from w(k2)."""
        if self.branch.control is None:
            return None
        return self._retraining("retrain (control)", self.branch.control, False)

    def _retraining(self, name: str, vertex: Vertex, moves: bool) -> Stretch:
        how = (lambda: self._retrain_start(moves), lambda: self._retrain_course(moves))
        return _stretch(self.bench, self.vault, self._label(name), vertex, how)

    def _static_masks(self, moves: bool) -> MaskSet:
        """The mask that the retraining starts with."""
        if self.moves and not moves:
            rule = MaskRule.of(self.bench.recipe.mask)
            return with_control(self.bench.model, self.moved, rule, evidence(self.bench, self.number))
        return self.found

    def _retrain_start(self, moves: bool) -> Tensors:
        return self._pruned(self._static_masks(moves))

    def _retrain_course(self, moves: bool) -> Course:
        moving = (self.rule, self.share, self.number) if moves else None
        return retrain_course(self.bench, self._static_masks(moves), self.lasting, moving)

    @property
    def end(self) -> Stretch:
        """The stretch that the round ends with."""
        return self.controlled or self.retraining

    @cached_property
    def result(self) -> Tensors:
        """w*: the last state, with the mask that it was trained under."""
        return self.end.end().tensors

    @cached_property
    def moved(self) -> MaskSet:
        """The mask at the end of a retraining that moves it."""
        return self._stored_masks(self.retraining.end().tensors)

    @cached_property
    def masks(self) -> MaskSet:
        """The mask at the end of the round."""
        return self._stored_masks(self.result)

    def _stored_masks(self, tensors: Tensors) -> MaskSet:
        own = {k.removeprefix("hook/mask/"): value for k, value in tensors.items() if k.startswith("hook/mask/")}
        return masks_of(own, list(prunable_weights(self.bench.model))) if own else self.found

    def settled(self) -> int:
        """The step of the retraining from which the mask has the asked sparsity."""
        if not self.moves or self.controlled is not None:
            return 0
        return settles_at(self.bench, self.lasting)

    # --- the account --------------------------------------------------------------------------------------------

    def _first_needed(self, k1: int) -> int:
        """How far trajectory 1 is asked for where the mask is found at `k1`."""
        line, at = self.bench.timeline, self.bench.recipe.weights["at"]
        return max(k1, k1 if at == "mask" else self.first.total if line.k2 is None else line.k2)

    def needed(self, done: bool = False) -> int:
        """Steps that this round asks for, whoever trained them; before it is done, of what is not known the most.

        Where the mask is found at a place that shows while the network is trained, trajectory 1 is among them.
        """
        _ = self._transformed
        steps = self._scoring_steps + self.retraining.known_length()
        steps += self.controlled.known_length() if self.controlled else 0
        if isinstance(self.bench.recipe.mask["at"], Mapping):
            steps += self._first_needed(self.k1 if done else self.bench.timeline.k1)
        steps += sum(stretch.known_length() for stretch in (self.prepared, self.learning) if stretch is not None)
        return steps + sum(stretch.known_length() for stretch in self._phases)


def _model_only(tensors: Tensors) -> Tensors:
    """The weights and buffers of a state; a phase starts with optimizer buffers at zero."""
    return {key: value for key, value in tensors.items() if key.startswith(MODEL)}


def rounds_of(bench: Bench, vault: Vault) -> tuple[Stretch, list[Round]]:
    """Trajectory 1 and the rounds of a recipe. Nothing is trained yet."""
    branch = branch_of(bench.recipe, bench.timeline, bench.root())
    first = first_trajectory(bench, vault, branch)
    rounds: list[Round] = []
    source, before = first, None
    for addresses in branch.rounds:
        before = Round(bench, vault, addresses, first, source, before)
        rounds.append(before)
        source = before.retraining
    return first, rounds
