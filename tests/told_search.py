"""Searches told by hand: each trial with the figures that a test gives it, written with the ledger's own recorder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from made_search import make_definition, result_of

from prune_search.ledger.records import Recorder, SearchRecords, read_search, trial_id
from prune_search.recipe.paradigm import paradigm
from prune_search.recipe.recipe import digest_of
from prune_search.recipe.space import read_space

SPACE = """\
preset: snip
mask: {sparsity: {hole: uniform, low: 0.5, high: 0.98}}
search: {trials: TRIALS, concurrency: 2, objectives: OBJECTIVES, constraints: CONSTRAINTS}
"""
OBJECTIVES = "[maximize val/accuracy, maximize sparsity]"


@dataclass
class Told:
    """A search whose trials a test writes one by one.

    Attributes:
        folder: of the search.
        told: trials so far.
    """

    folder: Path
    told: int = 0

    @classmethod
    def begin(
        cls, storage: Path, name: str = "told", trials: int = 4, constraints: str = "[]", objectives: str = OBJECTIVES
    ) -> Told:
        """Write search.json."""
        text = SPACE.replace("TRIALS", str(trials)).replace("OBJECTIVES", objectives)
        return cls(make_definition(storage, name, text.replace("CONSTRAINTS", constraints)))

    @property
    def records(self) -> SearchRecords:
        """What the ledger says."""
        return read_search(self.folder)

    def propose(
        self, preset: str, sparsity: float | None = None, seed: int = 0, control: str = "", twin: str | None = None
    ) -> tuple[Recorder, dict[str, Any]]:
        """Write what is proposed."""
        mask = {} if sparsity is None else {"mask": {"sparsity": sparsity}}
        recipe = read_space({"preset": preset, "task": {"seed": seed}, **mask}, "told").only_recipe()
        self.told += not control
        name = paradigm(recipe)
        proposed = {
            "number": 0 if control else self.told,
            "name": control or f"{self.told:03d}-{name}",
            "recipe": recipe.canonical,
            "paradigm": name,
            "params": {} if sparsity is None else {"mask.sparsity": sparsity, "task.seed": seed},
            "option": "",
            "digest": digest_of(recipe.canonical),
            "duplicate_of": twin,
            "sampler": None,
        }
        recorder = Recorder(self.folder, control or trial_id(self.told))
        recorder.write("proposed", proposed)
        return recorder, proposed

    def running(self, preset: str, sparsity: float) -> None:
        """A trial that has begun and not ended."""
        self.propose(preset, sparsity)[0].write("started", {"host": "here", "pid": 1, "node": ""})

    def trial(
        self,
        preset: str,
        sparsity: float | None,
        accuracy: float | None,
        *,
        seed: int = 0,
        control: str = "",
        twin: str | None = None,
        training: float | None = None,
        of_all: float | None = None,
        **ended: Any,
    ) -> str:
        """A trial that has ended; its id. `training` is its training accuracy, where that was measured.

        `of_all` is the share of all parameters that its masks remove.
        `ended` overrides what the last record says.
        """
        recorder, proposed = self.propose(preset, sparsity, seed, control, twin)
        recorder.write("started", {"host": "here", "pid": 1, "node": ""})
        reached = sparsity or 0.0
        metrics: Mapping[str, Any] = {
            **{"val/accuracy": accuracy, "val/loss": None, "test/accuracy": 0.5},
            **{"sparsity": reached, "collapsed": 0.0, "steps_trained": 100.0},
            **({} if training is None else {"train/accuracy": training}),
            **({} if of_all is None else {"sparsity/all_parameters": of_all}),
        }
        result = result_of(proposed["recipe"], metrics, proposed["paradigm"], reached)
        done = {"status": "completed", "result": result, "error": None}
        spent = {"steps_trained": 60, "steps_saved": 40, "seconds": 2.0}
        recorder.write("ended", {**done, **spent, **ended})
        return recorder.trial

    def dense(self, accuracy: float) -> None:
        """The dense control."""
        self.trial("dense", None, accuracy, control="control-dense")

    def failed(self, sparsity: float) -> str:
        """A trial that failed."""
        error = {"kind": "nan", "message": "the loss is not a number at step 40"}
        return self.trial("snip", sparsity, None, status="failed", result=None, error=error)
