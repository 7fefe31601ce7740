"""Metrics of lm-eval's tasks that lie in a local folder, measured by lm-eval's own evaluator on the pruned network."""

from __future__ import annotations

import hashlib
import importlib.util
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prune_search.recipe.axes import METRICS
from prune_search.recipe.facts import Metric
from prune_search.recipe.problems import Problem, UserError, not_one_of
from prune_search.tasks.kinds.packages import package
from prune_search.tasks.metrics import Figures, Measured

if TYPE_CHECKING:
    from torch import nn

INSTALL = "pip install 'prune-search[lm-eval]'"
PREFIX = "val/lm-eval"
# Of the measurements: a change of what they mean makes them be taken anew.
FORMAT = 2
SOURCE = "Biderman et al. 2024, Lessons from the Trenches on Reproducible Evaluation of Language Models, 2405.14782"


def lacks() -> str:
    """What has to be installed for lm-eval's tasks, and how; empty where nothing has."""
    missing = [name for name in ("lm_eval", "transformers") if importlib.util.find_spec(name) is None]
    return f"{', '.join(missing)} ({INSTALL})" if missing else ""


def measure(
    folder: str | Path,
    tasks: Mapping[str, Collection[str]],
    tokenizer: str | Path,
    *,
    best: Literal["maximize", "minimize"] = "maximize",
    batch: int = 8,
    limit: int | None = None,
) -> list[str]:
    """Register metrics ``val/lm-eval/TASK/METRIC``, which a search can name in its objectives and constraints.

    Call it in a module of your own that `PRUNE_SEARCH_PLUGINS` names. A task is one file of lm-eval's form. Its data
    are what it says: ``dataset_path: json`` with files of your own needs no network. They must lie in the folder too:
    a stored measurement is taken again where a byte of the folder has changed, and what lies elsewhere is not looked
    at. Code that a task of the folder names (``!function``) is run.

    Args:
        folder: with the tasks' YAML files and their data; lm-eval's own tasks are not looked at.
        tasks: per task, the metrics that lm-eval measures of it: ``acc``, ``acc_norm``, ``perplexity`` and so on. Where
            a task measures one behind several filters, the filter's name follows: ``exact_match,strict-match``.
        tokenizer: folder of the network's tokenizer, as transformers reads it.
        best: which way is better.
        batch: texts at a time.
        limit: examples of a task at most; None: all.

    Returns:
        The names of the metrics.

    Raises:
        UserError: the folder is not there.
    """
    there, words = Path(folder).absolute(), Path(tokenizer).absolute()
    for path in (there, words):
        if not path.is_dir():
            raise UserError([Problem("lm-eval", "is no folder", str(path))])
    names = []
    for task, metrics in tasks.items():
        for metric in metrics:
            name = f"{PREFIX}/{task}/{metric}"
            facts = Metric(best=best, split="validation", always=False, mid_training=False, lacks=lacks, whole=True)
            METRICS.register(name, summary=f"{metric} of the task {task}, by lm-eval", source=SOURCE, facts=facts)(
                _figure(there, task, metric, words, batch, limit)
            )
            names.append(name)
    return names


def _figure(
    folder: Path, task: str, metric: str, tokenizer: Path, batch: int, limit: int | None
) -> Callable[[Measured], float]:
    def figure(measured: Measured) -> float:
        """What lm-eval measures of the network."""
        about = {"tasks": _digest(folder), "tokenizer": _digest(tokenizer), "limit": limit}
        what = {"kind": "lm-eval", "format": FORMAT, "task": task, **about}
        found = measured.take(what, lambda: evaluated(_network(measured), folder, task, tokenizer, batch, limit))
        if metric not in found:
            raise UserError([Problem(f"{PREFIX}/{task}/{metric}", not_one_of(metric, sorted(found)))])
        return found[metric]

    return figure


def _network(measured: Measured) -> nn.Module:
    if measured.model is None:
        raise ValueError("this metric needs the network, which was not given")
    return measured.model


def _digest(folder: Path) -> str:
    """Of the names and bytes of all files in a folder."""
    found = hashlib.sha256()
    for path in sorted(one for one in folder.rglob("*") if one.is_file() and "__pycache__" not in one.parts):
        found.update(str(path.relative_to(folder)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def evaluated(
    model: nn.Module, folder: Path, task: str, tokenizer: Path, batch: int = 8, limit: int | None = None
) -> Figures:
    """The figures of one task: metric to number, without their errors; see `by_metric`.

    Args:
        model: a causal language model of transformers; in evaluation mode meanwhile.
        folder: with the task's YAML file.
        task: its name.
        tokenizer: folder of the network's tokenizer.
        batch: texts at a time.
        limit: examples at most; None: all.

    Raises:
        UserError: a package is missing, the folder has no such task, or the network is none of transformers.
    """
    from prune_search.tasks.kinds.hugging_face import quiet
    from prune_search.tasks.passes import eager, evaluating, unwrapped

    name = f"{PREFIX}/{task}"
    library: Any = package("lm_eval", "this metric", name)
    transformers: Any = package("transformers", "this metric", name)
    inner: Any = unwrapped(model)
    if not isinstance(inner, transformers.PreTrainedModel):
        text = f"needs a causal language model of transformers (got {type(inner).__name__})"
        raise UserError([Problem(name, text)])
    manager = package("lm_eval.tasks", "this metric", name).TaskManager(
        include_path=str(folder), include_defaults=False
    )
    if task not in manager.all_tasks:
        raise UserError([Problem(name, not_one_of(task, sorted(manager.all_tasks)), str(folder))])
    wrapper = package("lm_eval.models.huggingface", "this metric", name).HFLM
    with quiet(transformers), eager(), evaluating(inner):
        words = transformers.AutoTokenizer.from_pretrained(str(tokenizer), local_files_only=True)
        lm = wrapper(pretrained=inner, tokenizer=words, batch_size=batch)
        found = library.simple_evaluate(
            model=lm, tasks=[task], task_manager=manager, limit=limit, bootstrap_iters=0, log_samples=False
        )
    return by_metric(found["results"][task])


def by_metric(results: Mapping[str, object]) -> dict[str, float]:
    """What lm-eval returns of a task, without errors and words.

    Args:
        results: by metric and filter, such as ``acc,none``.

    Returns:
        By metric, such as ``acc``; by metric and filter where it has several filters.
    """
    numbers = {key: float(one) for key, one in results.items() if isinstance(one, int | float) and "_stderr" not in key}
    filters = Counter(key.partition(",")[0] for key in numbers)
    return {name if filters[name := key.partition(",")[0]] == 1 else key: one for key, one in numbers.items()}
