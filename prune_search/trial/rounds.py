"""w(k) → f1 → f2 → f3, in rounds: the segments of a recipe and the steps between them.

Every event has a content address: that of what it rests on, and a description of what it does. So two trials that share
a beginning share its stored states, and a round that is stored is not computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property

from prune_search.pruning.mask.counts import exact, share_after
from prune_search.pruning.mask.finder import find_mask, units_in
from prune_search.pruning.mask.fused_masks import fitted, with_fused
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.pruning.mask.scopes.episodic import training_steps
from prune_search.pruning.mask.score_training import learned_scores
from prune_search.pruning.mask.variants import decided_share, with_control
from prune_search.pruning.retrain.mask_keeper import stored_masks
from prune_search.recipe import axes
from prune_search.recipe.clock import Lasting, train_rate
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.step import END
from prune_search.tasks.fusion import restructured
from prune_search.training.loop import Course, Network
from prune_search.training.segment import MODEL, Segment, load_model, model_tensors
from prune_search.training.state_store import StateStore
from prune_search.trial.addresses import Adjustment, Branch, RoundBranch, Vertex, branch_of
from prune_search.trial.episodes import found_counts, search_figures, searching
from prune_search.trial.how_trained import (
    dense_teacher,
    hooks_of,
    needs_dense_teacher,
    optimizer_of,
    retraining_network,
    training_network,
)
from prune_search.trial.phases import RoundTransforms, Tensors, Transform, model_only, segment_of
from prune_search.trial.retraining import retrain_course, retraining_of, settles_at
from prune_search.trial.score_training import learning
from prune_search.trial.scoring_data import scoring_data
from prune_search.trial.setup import TrialSetup
from prune_search.trial.stability import stable_place


def first_trajectory(setup: TrialSetup, store: StateStore, branch: Branch) -> Segment:
    """Training from w(0), as far as k1 and k2 ask."""
    line = setup.timeline

    def course() -> Course:
        options = setup.recipe.train.options
        optimizer = optimizer_of(setup, setup.recipe.optimizer, options, "train")
        hooks = hooks_of(setup, options, line.total, setup.penalties())
        return Course(optimizer, setup.feed(), 0, train_rate(setup.recipe, line.epoch), hooks)

    asked = {line.k1} | ({line.k2} if line.k2 is not None else set())
    if needs_dense_teacher(setup):
        asked.add(line.total)
    begin, network = setup.start, training_network(setup)
    return segment_of(setup, store, "train", branch.train, (lambda: begin, course), asked, grid=True, network=network)


@dataclass
class Round:
    """One round: f1, f2 and f3 on the trajectory before it.

    Attributes:
        setup: the recipe, the data and the network.
        store: where states are stored.
        branch: the round's addresses.
        first: trajectory 1.
        source: the current trajectory, on which the mask is found.
        before: the round before, or None.
        network: with the loss of retrainings; None: the trial's.
    """

    setup: TrialSetup
    store: StateStore
    branch: RoundBranch
    first: Segment
    source: Segment
    before: Round | None
    network: Network | None = None

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
        if self.setup.recipe.mask.sparsity.layers is not None:
            return self._share_without(self.setup.recipe.mask.sparsity.layers)
        return share_after(self._decided, self.number, self.setup.recipe.rounds)

    def _share_without(self, layers: int) -> Decimal:
        """The kept share of this network's layers where so many more than before are removed."""
        # The network may have layers of another round just now; what is looked at is which layers there are.
        restructured(self.setup.model, self.before.result if self.before else self.setup.start, MODEL)
        sets = units_in(self.setup.model, self.rule, scoring_data(self.setup, self.number))
        left = sum(self.before is None or bool(self.before.masks[one.name].any()) for one in sets)
        if layers > left:
            text = f"asks for {layers} more layers in round {self.number}, and {left} can still be removed"
            raise UserError([Problem("mask.sparsity.layers", text)])
        return Decimal(left - layers) / len(sets)

    @property
    def learned_share(self) -> bool:
        """Whether how much is kept is learned."""
        return self.setup.recipe.mask.sparsity.learned

    @cached_property
    def _decided(self) -> Decimal:
        """The kept share that a scope comes to which decides it, on the weights of the first round."""
        if self.before is not None:
            return self.before._decided
        shown = self._shown()
        load_model(self.setup.model, self._mask_state())
        return decided_share(self.setup.model, self.rule, shown)

    @property
    def last(self) -> bool:
        return self.number == self.setup.recipe.rounds

    @cached_property
    def rule(self) -> MaskRule:
        """The mask block; its control acts in the last round only."""
        whole = MaskRule.of(self.setup.mask)
        return whole if self.last and not self.moves else replace(whole, control=None)

    @property
    def moves(self) -> bool:
        """Whether the retraining moves the mask."""
        retrain = self.setup.recipe.retrain
        return retrain is not None and retrain.dynamics is not None

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The weights that take part."""
        sets = units_in(self.setup.model, self.rule, scoring_data(self.setup, self.number))
        owned = {part.parameter for one in sets for part in one.parts}
        return tuple(name for name in self.setup.weights if name in owned)

    def _source_state(self) -> Tensors:
        if self.setup.recipe.mask.at == END or self.number > 1:
            return self.source.end().tensors
        return self.source.at(self.k1).tensors

    @cached_property
    def k1(self) -> int:
        """Where the mask of round 1 is found on trajectory 1: a place, or where it was stable first."""
        stable = self.setup.recipe.mask.stable
        if stable is None:
            return self.setup.timeline.k1
        return stable_place(self.setup, stable, self.source, self.rule, self.share)

    @cached_property
    def lasting(self) -> Lasting:
        """How the retraining goes, which may depend on the mask."""
        line = self.setup.timeline
        if not line.open:
            return Lasting(line.retrain_steps, line.rate, line.order_from)
        return retraining_of(self.setup, self.k1, self.found)

    # --- mask.prepare -------------------------------------------------------------------------------------------

    @cached_property
    def prepared(self) -> Segment | None:
        """The segment of ``mask.prepare``."""
        named = self.setup.recipe.mask.prepare
        if self.branch.prepare is None or named is None:
            return None

        item = Transform(named, "mask.prepare")
        return self.transforms.segment(
            self._label("prepare"), self.branch.prepare, item, self._source_state, lambda: None
        )

    @cached_property
    def transforms(self) -> RoundTransforms:
        """What the round's transforms are given, and how those that train are trained."""
        before = self.before
        removed = None if before is None else (lambda: before.masks)
        return RoundTransforms(self.setup, self.store, self.rule, lambda: self.layers, self.number, removed)

    def _label(self, name: str) -> str:
        return f"{name} (round {self.number})" if self.setup.recipe.rounds > 1 else name

    # --- f1 -----------------------------------------------------------------------------------------------------

    def _mask_state(self) -> Tensors:
        """w(k1), prepared where the recipe says so."""
        return self.prepared.end().tensors if self.prepared else self._source_state()

    @cached_property
    def learning(self) -> Segment | None:
        """The segment in which the criterion learns its scores, or the scope searches in episodes."""
        if self.branch.learn is None:
            return None
        if self.searches:
            begin, course, network = searching(self.setup, self.rule, self.number, self._mask_state)
            label = self._label(self.rule.scope.name)
            return segment_of(self.setup, self.store, label, self.branch.learn, (begin, course), network=network)

        def asked() -> tuple[Decimal | None, MaskSet | None]:
            return None if self.learned_share else self.share, self.before.masks if self.before else None

        begin, course, network = learning(self.setup, self.rule, self.number, asked, self._mask_state)
        label = self._label(self.rule.criterion.name)
        return segment_of(self.setup, self.store, label, self.branch.learn, (begin, course), network=network)

    @property
    def searches(self) -> bool:
        """Whether the scope tries the layers' fractions in episodes."""
        return self.rule.scope.entry(axes.SCOPES).facts.searches

    def untrained_steps(self) -> int:
        """Steps of episodes in which nothing is trained, but the network is measured."""
        trained = not self.searches or training_steps(self.setup.timeline.epoch, **self.rule.scope.options)
        return 0 if trained or self.learning is None else self.learning.known_length()

    def searched(self) -> dict[str, float]:
        """Figures of the search in episodes; empty where there is none."""
        return search_figures(self.learning.end().tensors) if self.searches and self.learning is not None else {}

    def _shown(self) -> ScoringData:
        """What the mask is found by: the data, and what was learned or searched for."""
        wanted = self.transforms.moved if self._compensates else None
        shown = replace(scoring_data(self.setup, self.number), moved=wanted)
        if self.learning is None:
            return shown
        end = self.learning.end().tensors
        if not self.searches:
            return replace(shown, learned=learned_scores(end))
        names = [one.name for one in units_in(self.setup.model, self.rule, shown)]
        return replace(shown, found=dict(zip(names, found_counts(end), strict=True)))

    @property
    def _compensates(self) -> bool:
        """Whether the first transform computes weights that the criterion may leave as it finds the mask."""
        first = self.setup.recipe.transforms[:1]
        return any(named.entry(axes.TRANSFORMS).facts.takes_moved for named in first)

    @cached_property
    def found(self) -> MaskSet:
        """f1: the mask that is found on w(k1)."""
        share = None if self.learned_share else self.share
        shown = self._shown()
        load_model(self.setup.model, self._mask_state())
        previous = (self.before.masks, self.before.share) if self.before else None
        self.store.steps.trained += self._scoring_steps
        return self.setup.alike(find_mask(self.setup.model, self.rule, share, previous, shown))

    @property
    def _scoring_steps(self) -> int:
        """Updates that the criterion trains while it scores."""
        facts = self.rule.criterion.entry(axes.CRITERIA).facts
        return int(facts.steps(self.setup.recipe.mask.score.written, **self.rule.criterion.options))

    # --- f2 -----------------------------------------------------------------------------------------------------

    def _weights(self) -> Tensors:
        """w(k2), or the network that the mask was learned on where nothing is rewound."""
        if self.branch.goes_on and self.learning is not None:
            return model_only(self.learning.end().tensors)
        at = self.setup.recipe.weights.at
        if at == "prepared" and self.prepared is not None:
            return self.prepared.end().tensors
        if at == END:
            return self.source.end().tensors
        line = self.setup.timeline
        return self.first.at(self.k1 if at == "mask" or line.k2 is None else line.k2).tensors

    @cached_property
    def _transformed(self) -> Callable[[], Tensors]:
        """Lazily the weights f2(w(k2), m), before the mask is applied."""
        weights: Callable[[], Tensors] = self._weights
        for item in self.branch.adjustments:
            weights = self._next(item, weights)
        return weights

    def _next(self, item: Adjustment, weights: Callable[[], Tensors]) -> Callable[[], Tensors]:
        if item.vertex is None:
            untrained = Transform(item.named, item.path)
            return lambda: self.transforms.changed(untrained, weights, lambda: self.found)
        trained = Transform(item.named, item.path, item.penalty)
        label = self._label(item.named.name)
        segment = self.transforms.segment(label, item.vertex, trained, weights, lambda: self.found)
        self._phases.append(segment)
        return lambda: segment.end().tensors

    @cached_property
    def _phases(self) -> list[Segment]:
        return []

    def _pruned(self, masks: MaskSet) -> Tensors:
        """w' = m ⊙ f2(w(k2), m)."""
        load_model(self.setup.model, self._transformed())
        fitted(masks, self.setup.model, self.setup.weights).apply(self.setup.model)
        return model_tensors(self.setup.model)

    # --- f3 -----------------------------------------------------------------------------------------------------

    @cached_property
    def retraining(self) -> Segment:
        """f3, or a segment of no steps where there is none."""
        return self._retraining("retrain", self.branch.retrain, self.moves)

    @cached_property
    def controlled(self) -> Segment | None:
        """With dynamics and a control: a static mask of the moved mask's final counts, trained from w(k2)."""
        if self.branch.control is None:
            return None
        return self._retraining("retrain (control)", self.branch.control, False)

    def _retraining(self, name: str, vertex: Vertex, moves: bool) -> Segment:
        how = (lambda: self._retrain_start(moves), lambda: self._retrain_course(moves))
        return segment_of(self.setup, self.store, self._label(name), vertex, how, network=self.network)

    def _static_masks(self, moves: bool) -> MaskSet:
        """The mask that the retraining starts with."""
        if self.moves and not moves:
            rule = MaskRule.of(self.setup.mask)
            return with_control(self.setup.model, self.moved, rule, scoring_data(self.setup, self.number))
        return self.found

    def _retrain_start(self, moves: bool) -> Tensors:
        return self._pruned(self._static_masks(moves))

    def _retrain_course(self, moves: bool) -> Course:
        if self.network is not None and self.network.teaching is not None:
            # It can be trained in this same network, whose state comes after it.
            _ = self.network.teaching.teacher
        moving = (self.rule, self.share, self.number) if moves else None
        masks = fitted(self._static_masks(moves), self.setup.model, self.setup.weights)
        return retrain_course(self.setup, masks, self.lasting, moving, self.number)

    @property
    def end(self) -> Segment:
        """The segment that the round ends with."""
        return self.controlled or self.retraining

    @cached_property
    def result(self) -> Tensors:
        """w*: the last state, with the mask that it was trained under."""
        return self.end.end().tensors

    @cached_property
    def moved(self) -> MaskSet:
        """The mask at the end of a retraining that moves it."""
        return self.masks_in(self.retraining.end().tensors)

    @cached_property
    def masks(self) -> MaskSet:
        """The mask at the end of the round."""
        return self.masks_in(self.result)

    def masks_in(self, tensors: Tensors) -> MaskSet:
        """The mask that holds in a state of the retraining."""
        stored = stored_masks(tensors, self.setup.weights)
        if stored is not None:
            return with_fused(stored, tensors, MODEL)
        found = self.found
        restructured(self.setup.model, tensors, MODEL)
        return fitted(found, self.setup.model, self.setup.weights)

    def masks_now(self, tensors: Tensors) -> MaskSet:
        """The mask that holds in the network while it is retrained, from the tensors of the hooks that train it."""
        stored = stored_masks(tensors, self.setup.weights)
        return fitted(self.found if stored is None else stored, self.setup.model, self.setup.weights)

    def settled(self) -> int:
        """The step of the retraining from which the mask has the asked sparsity."""
        if not self.moves or self.controlled is not None:
            return 0
        return settles_at(self.setup, self.lasting)

    # --- the account --------------------------------------------------------------------------------------------

    def _first_needed(self, k1: int) -> int:
        """How far trajectory 1 is asked for where the mask is found at `k1`."""
        line, at = self.setup.timeline, self.setup.recipe.weights.at
        early = self.setup.recipe.train.options.early_stopping is not None
        total = self.first.known_length() if early else self.first.total
        if needs_dense_teacher(self.setup):
            return total
        return min(max(k1, k1 if at == "mask" else total if line.k2 is None else line.k2), total)

    def needed(self, done: bool = False) -> int:
        """Steps that this round asks for, whoever trained them; before it is done, of what is not known the most.

        Where the mask is found at a place that shows while the network is trained, trajectory 1 is among them.
        """
        _ = self._transformed
        steps = self._scoring_steps + self.retraining.known_length()
        steps += self.controlled.known_length() if self.controlled else 0
        if self.setup.recipe.mask.stable is not None:
            steps += self._first_needed(self.k1 if done else self.setup.timeline.k1)
        steps += sum(segment.known_length() for segment in (self.prepared, self.learning) if segment is not None)
        return steps + sum(segment.known_length() for segment in self._phases)


def rounds_of(setup: TrialSetup, store: StateStore) -> tuple[Segment, list[Round]]:
    """Trajectory 1 and the rounds of a recipe. Nothing is trained yet."""
    branch = branch_of(setup.recipe, setup.timeline, setup.root(), setup.digests.get("teacher"))
    first = first_trajectory(setup, store, branch)
    rounds: list[Round] = []
    source, before = first, None
    network = retraining_network(setup, dense_teacher(setup, first)) if setup.recipe.retrain is not None else None
    for addresses in branch.rounds:
        before = Round(setup, store, addresses, first, source, before, network)
        rounds.append(before)
        source = before.retraining
    return first, rounds
