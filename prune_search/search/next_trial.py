"""Decides what a search does next, from its ledger: unfinished trials, controls and proposals.

Nothing here knows Ray. The state is the records; what the driver keeps besides is only which trials run now.
"""

from __future__ import annotations

import enum
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prune_search.ledger.finalists import (
    Choice,
    chosen_finalists,
    finalist_id,
    new_seeds,
    noted,
    on_seed,
    winner_of,
)
from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import (
    DENSE,
    FINALIST,
    LOW_FIDELITY,
    Record,
    Recorder,
    SearchRecords,
    TrialRecords,
    low_fidelity_id,
    place_in,
    read_search,
    read_trial,
    trial_id,
)
from prune_search.recipe import axes
from prune_search.recipe.fidelity import fidelities_of
from prune_search.recipe.paradigm import paradigm
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Named, Recipe, digest_of
from prune_search.recipe.schema import BLOCKS
from prune_search.recipe.space import Space
from prune_search.search.guided.experience import stored_experience
from prune_search.search.guided.recommend import as_expected, follows, with_prior
from prune_search.search.promotions import Promotions, known_by
from prune_search.search.proposer import Proposal, Proposer
from prune_search.search.shared_tree import Tree
from prune_search.storage.places import StoragePath

LONG, SHUFFLE = "control-dense-long", "control-shuffle"
LOST_ATTEMPT = 999
# So many trials of a sampler that does not learn are proposed ahead, to see what they share.
LOOK_AHEAD = 64


class Next(enum.Enum):
    """What there is to do besides a trial."""

    WAIT = "wait"
    FINISHED = "finished"


class Middle:
    """Draws the first of every choice and the middle of every range."""

    def choice(self, name: str, labels: tuple[str, ...]) -> int:
        """The first."""
        return 0

    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float:
        """The middle, on a log scale the geometric one."""
        return float((low * high) ** 0.5) if log else (low + high) / 2

    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int:
        """The middle, on the grid of the steps."""
        return low + (high - low) // 2 // step * step


def dense_recipe(space: Space) -> Recipe:
    """The dense network at train.steps, or, with ``train.from``, as it was given and not trained.

    Holes in task and train are at their first or middle value.
    """
    drawn = space.fill(Middle()).raw
    given = {key: drawn[key] for key in ("schema", "task", "train") if key in drawn}
    if "model" not in (task := given.get("task", {})):
        # The same default model as the pruned recipes have.
        given |= {"task": {**task, "model": Recipe.read(drawn).task.written["model"]}}
    return Recipe.read({**axes.PRESETS["dense"].make(), **given})


def long_recipe(winner: Recipe, dense: Mapping[str, Any], steps: int) -> Recipe | None:
    """The dense network at as many steps as the best trial.

    Args:
        winner: the best trial's recipe.
        dense: the canonical recipe of the dense control.
        steps: that the best trial trained.

    Returns:
        With ``train.from`` the given network trained on as the winner retrains; None where the winner does not.
    """
    blocks = {**{key: dense[key] for key in BLOCKS}, "task": winner.task.written}
    if winner.train.start is None:
        return Recipe.read({**blocks, "train": {**winner.train.written, "steps": f"{steps}it"}})
    if winner.retrain is None or steps == 0:
        return None
    retrain = {key: value for key, value in winner.retrain.written.items() if key not in ("until", "dynamics")}
    retrain |= {"steps": f"{steps}it", "stretch": isinstance(retrain.get("clock"), str)}
    return Recipe.read({**blocks, "train": winner.train.written, "retrain": retrain})


# Told the records whenever a trial was started (then None) or ended.
Listener = Callable[[SearchRecords, TrialRecords | None], None]


@dataclass
class NextTrial:
    """The course of a search.

    Attributes:
        space: what is searched.
        folder: of the search.
        records: everything known, kept up to date by `refresh`.
        proposer: proposes.
        goals: objectives and constraints.
        running: ids of the trials that run now.
        deadline: seconds since the epoch after which nothing is proposed, or None.
        stopping: asked before everything else; True ends the search.
        tree: the shared tree, as far as this search knows it.
        free: whether nobody else holds the segment of an address, which a trial was refused.
        alone: by id, how many attempts a running trial that needs a whole device had when it was sent there.
        promotions: decides which paused trials go on; None where the scheduler pauses none.
        turn: the last one that was decided (see `promotions`).
    """

    space: Space
    folder: StoragePath
    records: SearchRecords
    proposer: Proposer
    goals: Goals
    stopping: Callable[[], bool]
    deadline: float | None = None
    running: set[str] = field(default_factory=set)
    exhausted: bool = False
    _open: dict[str, None] = field(default_factory=dict)
    _first: dict[str, str] = field(default_factory=dict)
    tree: Tree = field(default_factory=lambda: Tree(lambda recipe: None))
    free: Callable[[str], bool] = lambda address: True
    alone: dict[str, int] = field(default_factory=dict)
    promotions: Promotions | None = None
    turn: int = 0
    _copies: set[str] = field(default_factory=set)
    _low: dict[str, TrialRecords] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        folder: StoragePath,
        space: Space,
        epoch_of: Callable[[Recipe], int | None],
        stopping: Callable[[], bool],
        examples: int = 0,
    ) -> NextTrial:
        """Read a search's ledger, and go on from there; `examples` is the size of the training set, 0 if unknown."""
        budget = space.search.get("time_budget")
        deadline = None if budget is None else time.time() + budget
        goals, records = Goals.of(space.search), read_search(folder)
        proposer = Proposer(space, epoch_of, examples, stored_experience(folder))
        next_trial = cls(space, folder, records, proposer, goals, stopping, deadline, tree=Tree(epoch_of))
        records.at_work = next_trial.running
        next_trial.promotions = Promotions.of(space.search)
        for trial in records.trials.values():
            next_trial._learn(trial)
        return next_trial

    @property
    def search(self) -> Mapping[str, Any]:
        """The search block."""
        return self.space.search

    def next(self) -> TrialRecords | Next:
        """The trial that is to be started now, or whether to wait or to end."""
        if self.stopping():
            return Next.FINISHED
        for step in (
            self._room_made,
            self._unfinished,
            self._first_control,
            self._proposal,
            self._finalist,
            self._last_controls,
        ):
            found = step()
            if found is not None:
                if isinstance(found, TrialRecords):
                    self.running.add(found.id)
                    if found.alone:
                        self.alone[found.id] = len(found.attempts)
                return found
        return Next.FINISHED

    def done(self, identity: str, lost: str | None) -> TrialRecords:
        """A trial runs no more.

        Args:
            identity: its id.
            lost: why its process died for the last time, or None.
        """
        self.running.discard(identity)
        self.alone.pop(identity, None)
        trial = self.refresh(identity)
        if trial.ended is None and lost is not None:
            error = {"kind": "lost", "message": " ".join(lost.split())[:500]}
            self._end(trial, {"status": "failed", "result": None, "error": error})
        return self.records.trials[identity]

    def refresh(self, identity: str) -> TrialRecords:
        """Read a trial's records anew."""
        trial = read_trial(self.folder / "trials" / identity)
        self.records.put(trial)
        self._learn(trial)
        return trial

    def _learn(self, trial: TrialRecords) -> None:
        """Keep up what would be looked up among all trials at every decision otherwise."""
        self.tree.learn(trial)
        if trial.ended is None:
            self._open[trial.id] = None
        else:
            self._open.pop(trial.id, None)
        if self.promotions is not None:
            self.promotions.learn(trial)
        if trial.proposed is None:
            return
        if trial.low_fidelity:
            self._low[trial.id] = trial
            self.turn = max(self.turn, trial.turn)
        if trial.control:
            return
        self._first.setdefault(trial.proposed.data["digest"], trial.id)
        self.turn = max(self.turn, trial.turn)
        if trial.duplicate_of is not None:
            settled = trial.ended is not None and trial.paused is None
            (self._copies.discard if settled else self._copies.add)(trial.id)

    # --- what comes next --------------------------------------------------------------------------------------------

    def _room_made(self) -> Next | None:
        """Nothing else is started until a device is free for the trial that needs one alone: it would never be."""
        waits = any(len(self.refresh(key).attempts) <= attempts for key, attempts in self.alone.items())
        return Next.WAIT if waits else None

    def _unfinished(self) -> TrialRecords | None:
        """A proposed trial that needs nothing that is being trained."""
        waiting = [trial for trial in self._waiting() if self._admitted(trial)]
        if not waiting:
            return None
        running = [self.refresh(identity) for identity in sorted(self.running)]
        ready = self.tree.ready(waiting, running)
        return ready[0] if ready else None

    def _waiting(self) -> list[TrialRecords]:
        """The trials that were proposed, have not ended and do not run."""
        unfinished = [self.records.trials[identity] for identity in self._open if identity not in self.running]
        return [trial for trial in unfinished if trial.duplicate_of is None]

    def _admitted(self, trial: TrialRecords) -> bool:
        """Whether what the trial was refused is free now, where another search was training it."""
        last = trial.progress.get(trial.attempts[-1].attempt) if trial.attempts else None
        return last is None or last.lacking is None or self.free(last.lacking[0])

    def _first_control(self) -> TrialRecords | Next | None:
        # Without controls it is still there to be compared with where a constraint names it.
        if (self.search["controls"] or self.goals.needs_dense) and DENSE not in self.records.trials:
            return self._propose_control(DENSE, dense_recipe(self.space))
        return None

    def _proposal(self) -> TrialRecords | Next | None:
        """A trial that is promoted or proposed."""
        turn = self.turn
        while True:
            self._settle_duplicates()
            # A turn in which nobody was to go on was one too.
            turn = max(turn, self.turn) + 1
            numbered = self.records.numbered()
            spent = len(numbered) >= self.search["trials"] or self.exhausted
            if self._late() or (spent and self.promotions is None):
                return None
            if self._far_ahead(len(numbered)):
                return Next.WAIT
            known = self._known(turn, numbered)
            if known is None:
                return Next.WAIT
            if self._needs_dense(turn):
                return Next.WAIT
            if self._met(known):
                return None
            if not self._promoted(turn):
                last = self._last(turn)
                if spent and (last is None or last >= self.turn):
                    return None
                if spent or not self._proposed(turn, known):
                    continue
            if (ready := self._unfinished()) is not None:
                return ready

    def _proposed(self, turn: int, known: list[TrialRecords]) -> bool:
        """Propose the next trial; False where there is none, or where it needs no training."""
        number = len(known) + 1
        proposal = self.proposer.propose(number, known, self.records.dense, self._known_low(turn))
        if proposal is None:
            self.exhausted = True
            return False
        if proposal.cheaper is not None:
            self._propose_low_fidelity(proposal, turn)
            return True
        digest = digest_of(proposal.recipe.canonical)
        twin = self._first.get(digest)
        extra = {"number": number, "option": proposal.option, "params": dict(proposal.params)}
        extra |= {"sampler": proposal.sampler, "duplicate_of": twin}
        extra |= {"begun": proposal.begun} if proposal.begun else {}
        if self._turns_noted:
            extra["turn"] = turn
        self._propose(trial_id(number), proposal.recipe, extra)
        return twin is None

    def _promoted(self, turn: int) -> bool:
        """Let the best paused trial go on that is to; False where none is."""
        last = self._last(turn)
        found = None if self.promotions is None else self.promotions.best(last, self.records.dense)
        if found is None:
            return False
        self._promote(found, turn)
        return True

    def _last(self, turn: int) -> int | None:
        """The last turn whose outcome counts for this one; None: whatever is known counts."""
        return turn - self.search["concurrency"] if self.search["reproducible"] else None

    @property
    def _independent(self) -> bool:
        """Whether no proposal and no judgement depends on which trials have ended."""
        entry = Named.of(axes.SAMPLERS, self.search["sampler"]).entry(axes.SAMPLERS)
        judged = self.search["reproducible"] and self.search["scheduler"] != "none"
        return bool(entry.facts.independent) and not judged and not self.search["stop_when_met"]

    def _far_ahead(self, proposed: int) -> bool:
        """Whether enough trials wait for a segment; a sampler that learns is asked as late as possible."""
        learns = not self._independent
        if proposed == 0 or (learns and self.search["reproducible"]):
            return False
        return len(self._waiting()) >= (self.search["concurrency"] if learns else LOOK_AHEAD)

    def _needs_dense(self, turn: int) -> bool:
        """Whether the dense network's figures are waited for; where it failed, the constraints stay unjudged."""
        late = turn > self.search["concurrency"] and not self._independent
        return late and self.goals.needs_dense and self.records.trials[DENSE].ended is None

    def _known(self, turn: int, trials: list[TrialRecords]) -> list[TrialRecords] | None:
        """The `trials` so far as the decision of a turn may see them; None while it must wait."""
        last = self._last(turn)
        if last is None or self._independent:
            return trials
        # Exactly what came of turns 1 … t-c counts; what later ones have reached by now is not looked at.
        unfinished = (self.records.trials[identity] for identity in self._open)
        if any((not trial.control or trial.low_fidelity) and trial.turn <= last for trial in unfinished):
            return None
        first = 0 if self._turns_noted else max(0, last)
        return [*trials[:first], *(known_by(trial, last) for trial in trials[first:])]

    @property
    def _turns_noted(self) -> bool:
        """Whether a turn can be something else than the proposal of the next numbered trial."""
        return self.promotions is not None or bool(fidelities_of(self.search))

    def _known_low(self, turn: int) -> list[TrialRecords]:
        """The low-fidelity trials so far as the decision of a turn may see them."""
        last, low = self._last(turn), [self._low[identity] for identity in sorted(self._low)]
        return low if last is None else [known_by(trial, last) for trial in low]

    def _late(self) -> bool:
        return self.deadline is not None and time.time() > self.deadline

    def _met(self, known: list[TrialRecords]) -> bool:
        """Whether one of the trials that the next proposal may see is what was searched for."""
        if not (self.search["stop_when_met"] and self.search["constraints"]):
            return False
        dense = self.records.dense
        for trial in known:
            if trial.status == "completed":
                violations = self.goals.violations(trial.metrics, dense)
                if violations is not None and all(violation <= 0 for violation in violations):
                    return True
        return False

    def _finalist(self) -> TrialRecords | Next | None:
        """The best recipes on new seeds, once all trials have ended."""
        asked = self.search.get("finalists")
        if asked is None:
            return None
        if self._waiting() or any(not identity.startswith(FINALIST) for identity in self.running):
            return Next.WAIT
        choice = noted(self.records)
        if choice is None or choice.among != len(self.records.numbered()):
            choice = self._chosen(asked)
        for identity, seed in itertools.product(choice.finalists, choice.seeds):
            if finalist_id(identity, seed) not in self.records.trials:
                return self._propose_repetition(self.records.trials[identity], seed, choice)
        return Next.WAIT if self.running else None

    def _chosen(self, asked: Mapping[str, int]) -> Choice:
        trials = judged = self.records.numbered()
        if follows(self.search["sampler"]):
            judged = as_expected(trials, self.goals, with_prior(self.search["sampler"]), None, self.proposer.experience)
        chosen = chosen_finalists(judged, self.goals, self.records.dense, asked["count"])
        return Choice(len(trials), tuple(trial.id for trial in chosen), tuple(new_seeds(trials, asked["seeds"])))

    def _last_controls(self) -> TrialRecords | Next | None:
        if self.running - {LONG, SHUFFLE} or self._waiting():
            return Next.WAIT
        if not self.search["controls"]:
            return None
        best = winner_of(self.records).trial
        if best is None:
            return None
        winner = Recipe.from_canonical(best.recipe)
        dense = self.records.trials[DENSE].recipe if DENSE in self.records.trials else best.recipe
        long = long_recipe(winner, dense, int(best.metrics["steps_trained"]))
        if LONG not in self.records.trials and DENSE in self.records.trials and long is not None:
            return self._propose_control(LONG, long)
        if SHUFFLE not in self.records.trials and winner.mask.control is None:
            try:
                recipe = Recipe.read({**winner.blocks, "mask": {**winner.mask.written, "control": "shuffle"}})
            except UserError:
                # Nothing is pruned, so that there is nothing to shuffle.
                return None
            return self._propose_control(SHUFFLE, recipe)
        return None

    # --- writing ----------------------------------------------------------------------------------------------------

    def _propose_control(self, identity: str, recipe: Recipe) -> TrialRecords:
        extra = {"number": 0, "option": "", "params": {}, "sampler": None, "duplicate_of": None}
        return self._propose(identity, recipe, extra)

    def _propose_repetition(self, trial: TrialRecords, seed: int, choice: Choice) -> TrialRecords:
        """A finalist on a new seed; its record notes all finalists and seeds."""
        assert trial.proposed is not None
        extra = {"number": 0, "option": "", "params": {}, "sampler": None, "duplicate_of": None}
        extra |= {**choice.as_data(), "name": f"{trial.proposed.data['name']}-seed-{seed}"}
        return self._propose(finalist_id(trial.id, seed), Recipe.from_canonical(on_seed(trial.recipe, seed)), extra)

    def _propose_low_fidelity(self, proposal: Proposal, turn: int) -> TrialRecords:
        """A cheaper form of a recipe; its record names the recipe that it stands in for."""
        assert proposal.cheaper is not None
        number, cheaper = len(self._low) + 1, proposal.cheaper
        identity, whole = low_fidelity_id(number), proposal.recipe
        told = {"label": cheaper.form.label, "of": digest_of(whole.canonical), "whole": whole.canonical}
        extra = {"number": number, "option": proposal.option, "params": dict(proposal.params), "turn": turn}
        extra |= {"sampler": proposal.sampler, "duplicate_of": None, "fidelity": {**told, "price": cheaper.price}}
        recipe = cheaper.candidate.recipe
        return self._propose(identity, recipe, {**extra, "name": f"{LOW_FIDELITY}{run_name(number, recipe)}"})

    def _propose(self, identity: str, recipe: Recipe, extra: Mapping[str, Any]) -> TrialRecords:
        name = identity if extra["number"] == 0 else run_name(extra["number"], recipe)
        data = {"name": name, "recipe": recipe.canonical, "paradigm": paradigm(recipe)}
        Recorder(self.folder, identity).write("proposed", {**data, "digest": digest_of(recipe.canonical), **extra})
        return self.refresh(identity)

    def _end(self, trial: TrialRecords, data: Mapping[str, Any]) -> Record:
        spent = {"steps_trained": 0, "steps_saved": 0, "seconds": 0.0}
        attempt = LOST_ATTEMPT + len(trial.promotions)
        record = Recorder(self.folder, trial.id, attempt).write("ended", {**spent, **data})
        self.refresh(trial.id)
        return record

    def _promote(self, trial: TrialRecords, turn: int) -> None:
        assert trial.ended is not None
        place = {key: value for key, value in trial.ended.data["paused"].items() if key in ("round", "step", "share")}
        Recorder(self.folder, trial.id, trial.ended.attempt).write("promoted", {"turn": turn, **place})
        self.refresh(trial.id)

    def _settle_duplicates(self) -> None:
        """A repeated recipe is not trained: its trial copies the result, and all its steps are saved.

        It rests while the trial rests whose recipe it repeats, and is promoted with it.
        """
        for identity in sorted(self._copies):
            trial = self.records.trials[identity]
            twin = self.records.trials.get(trial.duplicate_of or "")
            if twin is None:
                continue
            if trial.paused is not None and (twin.paused is None or place_in(twin.paused) != place_in(trial.paused)):
                self._promote(trial, twin.turn)
            elif trial.ended is None and twin.ended is not None:
                ended = dict(twin.ended.data)
                saved = int(ended.get("steps_trained", 0)) + int(ended.get("steps_saved", 0))
                self._end(trial, {**ended, "steps_trained": 0, "steps_saved": saved, "seconds": 0.0})


def run_name(number: int, recipe: Recipe) -> str:
    """A trial's name for people: ``012-lottery-ticket-s0.90``; of what removes layers, ``012-fuse-init-3-layers``."""
    words = paradigm(recipe).replace(" ", "-").replace("→", "-to-")
    return f"{number:03d}-{words}{_removes(recipe)}"


def _removes(recipe: Recipe) -> str:
    asked = recipe.mask.sparsity
    if asked.layers is not None:
        removed = asked.layers * recipe.rounds
        return f"-{removed}-layer" + ("s" if removed > 1 else "")
    if asked.per_round is not None:
        return f"-s{1 - (1 - asked.per_round) ** recipe.rounds:.2f}"
    return f"-s{asked.final:.2f}" if asked.final is not None else ""
