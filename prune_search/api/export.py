"""Exports the best recipe of a search, or a finished run, as a folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune_search.api.run import run, run_stored
from prune_search.api.target import Target
from prune_search.api.trust import allowed_code, checked
from prune_search.api.where import Where, where_given
from prune_search.ledger.finalists import winner_of
from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import SearchRecords, TrialRecords, read_search, search_folder
from prune_search.ledger.uris import masked
from prune_search.recipe.argument_types import PATH, PATH_SAID, made, of_type, of_type_or_none
from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.recipe.schema import BLOCKS
from prune_search.recipe.search_block import workers_of
from prune_search.storage.places import local_folder

if TYPE_CHECKING:
    from torch import nn

    from prune_search.exports.card_loading import OnnxFile
    from prune_search.exports.folder import CardOf
    from prune_search.exports.networks import Finished, Networks
    from prune_search.tracking.model_registry import ModelOrigin
    from prune_search.trial.callbacks import Sink
    from prune_search.trial.result import Result

MAX_SEEDS, MAX_MULTIPLE = 100, 1024
# Tracking URI and experiment.
Server = tuple[str, str]
_log = logging.getLogger("prune_search")
# So many inputs the networks of a folder are compared on.
EXAMPLES = 64


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and what to add to the recipe, weights, masks, metrics and model card.

    Attributes:
        trial: name or key of the trial to export; None: the best.
        seeds: number of seeds that the metrics are averaged over; additional ones are retrained.
        onnx: also write model.onnx, checked against PyTorch with onnxruntime.
        register: name of a registered MLflow model whose champion this becomes.
        round_to: round the widths of the compact network up to a multiple of this.
    """

    trial: str | None = None
    seeds: int = 1
    onnx: bool = False
    register: str | None = None
    round_to: int = 1

    def __post_init__(self) -> None:
        """Refuse values of a wrong type.

        Raises:
            UserError: one has another type.
        """
        for key, text in (("trial", self.trial), ("register", self.register)):
            of_type_or_none(f"options.{key}", text, (str,), "a text")
        for key, number in (("seeds", self.seeds), ("round_to", self.round_to)):
            of_type(f"options.{key}", number, (int,), "a whole number")
        of_type("options.onnx", self.onnx, (bool,), "True or False")

    def check(self) -> None:
        """Check the options before anything is run.

        Raises:
            UserError: lists every option that cannot be met.
        """
        problems = []
        if not 1 <= self.seeds <= MAX_SEEDS:
            problems.append(Problem("--seeds", f"must be from 1 to {MAX_SEEDS} (got {self.seeds})"))
        if not 1 <= self.round_to <= MAX_MULTIPLE:
            problems.append(Problem("--round-to", f"must be from 1 to {MAX_MULTIPLE} (got {self.round_to})"))
        if problems:
            raise UserError(problems)
        if self.onnx:
            from prune_search.exports.onnx_file import check_installed

            check_installed()
        if self.register is not None:
            from prune_search.tracking.model_registry import check_name

            check_name(self.register)


@dataclass(frozen=True, eq=False)
class Export:
    """An exported folder.

    Attributes:
        folder: path of the folder.
        result: the exported run.
        costs: sizes and latencies, as in metrics.json.
        onnx_apart: the largest difference of onnxruntime's outputs from torch's, relative to the largest; None without.
        version: version of the registered model, or None.
        tracking_uri: tracking URI where it is registered, without passwords.
    """

    folder: Path
    result: Result
    costs: Mapping[str, Any]
    onnx_apart: float | None = None
    version: str | None = None
    tracking_uri: str | None = None

    def as_data(self) -> dict[str, Any]:
        """The data of ``export --json``."""
        more = {"onnx_apart": self.onnx_apart, "registered_version": self.version, "tracking_uri": self.tracking_uri}
        return {"folder": str(self.folder.absolute()), **self.result.as_data(), "costs": dict(self.costs), **more}


def chosen_trial(records: SearchRecords, key: str | None = None) -> TrialRecords:
    """The best trial of a search, or the one with a name or key (or the first six of its digits).

    Raises:
        UserError: nothing has completed, or no completed trial has that key.
    """
    if key is None:
        trial = winner_of(records).trial
        if trial is None:
            raise UserError([Problem("", "no trial has completed yet", records.name)])
        return trial
    for candidate in records.trials.values():
        name = candidate.proposed.data["name"] if candidate.proposed is not None else ""
        if candidate.result and (key == name or (len(key) >= 6 and candidate.result["key"].startswith(key))):
            return candidate
    raise UserError([Problem("--trial", f"no completed trial has the name or key {shown(key)}", records.name)])


def export(
    name: str,
    to: str | Path,
    *,
    options: ExportOptions | None = None,
    where: Where | None = None,
    sink: Sink | None = None,
) -> Export:
    """Export the best recipe of a search, or a finished run, as a folder that loads without the model's class.

    The recipe is run once more, reusing stored states, and is now measured on test data too. The folder contains the
    recipe, weights, masks, metrics, the masked and the compact network as data, and a model card.

    Args:
        name: of the search; or the folder of a finished run (``run --out``), which may be `to` itself.
        to: target folder; created, or replaced if it contains the same recipe.
        options: another trial, more seeds, ONNX, MLflow's model registry.
        where: storage; the data folder if it has moved; model and data of a search that somebody else launched.
        sink: callbacks that receive the progress.

    Raises:
        UserError: there is no such search or trial, the folder has other content, an option cannot be met, or the
            search is somebody else's and names code that is not named here.
        TrialError: a run failed.

    Example:
        >>> prune_search.export("quickstart", to="best", options=prune_search.ExportOptions(onnx=True))
    """
    of_type("name", name, PATH, "the name of a search, or the folder of a run")
    of_type("to", to, PATH, PATH_SAID)
    options, where = made("options", options, ExportOptions), where_given(where)
    options.check()
    to = local_folder(Path(to), "--to")
    if is_run_folder(name):
        return _export_run(Path(name), to, options, where, sink)
    records = _records(name, where)
    chosen = chosen_trial(records, options.trial)
    return _export(records, chosen, to, options, where, sink, _front(records))


def export_pareto(
    name: str,
    to: str | Path,
    *,
    options: ExportOptions | None = None,
    where: Where | None = None,
    sink: Sink | None = None,
) -> list[Export]:
    """Export every trial on a search's Pareto front to a folder under `to`, named after the trial.

    Raises:
        UserError: as for `export`, or the options name a single trial or a registered model.
        TrialError: a run failed.
    """
    of_type("name", name, PATH, "the name of a search, or the folder of a run")
    of_type("to", to, PATH, PATH_SAID)
    options, where = made("options", options, ExportOptions), where_given(where)
    if options.trial is not None or options.register is not None:
        given = "--trial" if options.trial is not None else "--register"
        raise UserError([Problem(given, "applies to a single trial and cannot be combined with --pareto")])
    options.check()
    to = local_folder(Path(to), "--to")
    records = _records(name, where)
    front = Goals.of(records.definition["space"]["search"]).pareto(records.numbered(), records.dense)
    if not front:
        raise UserError([Problem("", "no trial has completed yet", records.name)])
    picture = _front(records)
    return [_export(records, trial, to / _name(trial), options, where, sink, picture) for trial in front]


def _name(trial: TrialRecords) -> str:
    return str(trial.proposed.data["name"]) if trial.proposed is not None else trial.id


def _records(name: str, where: Where) -> SearchRecords:
    records = read_search(search_folder(where.storage_folder(), name))
    if records.simulated is not None:
        text = f"is simulated ({records.simulated}): there is no network to export. Launch it without --simulate"
        raise UserError([Problem("", text, name)])
    return records


def _export(
    records: SearchRecords,
    chosen: TrialRecords,
    to: Path,
    options: ExportOptions,
    where: Where,
    sink: Sink | None,
    front: bytes | None,
) -> Export:
    from prune_search.exports.folder import CardOf
    from prune_search.tracking.delivered_log import DeliveredLog, memory_folder

    definition = checked(records.definition, records.name)
    code = allowed_code(definition, where, records.name)
    root = where.data_root or definition["data_root"]
    there = Where(root, where.storage_folder(), code["model"], code["data"], where.device)
    raw = {block: chosen.recipe[block] for block in BLOCKS}
    title = _name(chosen) if chosen.proposed is not None else None
    delivered = DeliveredLog.read(memory_folder(records.folder, records.tracking_uri))
    origin = CardOf(records.name, title, records.dense, front=front, run=delivered.of(chosen.id).run_id)
    server = (records.tracking_uri, str(definition["experiment"]))
    return _write(raw, to, options, there, sink, origin, server, definition["space"]["search"])


def _front(records: SearchRecords) -> bytes | None:
    """The picture of the search's Pareto front, an SVG; None where there is nothing to be seen."""
    from prune_search.report.compare import compare_data
    from prune_search.report.figure_data import FigureData, hang

    return hang(FigureData((records,), compare_data([records])), ["pareto"]).get("pareto")


def is_run_folder(name: str) -> bool:
    """Whether a name is the folder of a finished run, and not a search."""
    from prune_search.recipe.space import RECIPE_FILE
    from prune_search.trial.folder import METRICS_FILE

    folder = Path(name)
    try:
        return all((folder / file).is_file() for file in (RECIPE_FILE, METRICS_FILE))
    except (OSError, ValueError):
        return False


def _export_run(folder: Path, to: Path, options: ExportOptions, where: Where, sink: Sink | None) -> Export:
    """A finished run, exported as a trial is.

    Raises:
        UserError: a trial is named, the folder was altered, or its code is not named.
    """
    import os

    from prune_search.exports.folder import CardOf
    from prune_search.ledger.tracking_uri import default_uri
    from prune_search.tracking.store import absolute_uri
    from prune_search.trial.folder import read_recorded

    if options.trial is not None:
        raise UserError([Problem("--trial", "applies to a search, not to the folder of a run", str(folder))])
    recorded = read_recorded(folder).as_data()
    storage = where.storage_folder()
    around = os.environ.get("MLFLOW_TRACKING_URI")
    uri = absolute_uri(around, storage) if around else default_uri(storage)
    there = replace(where, storage=storage)
    found = _write(folder, to, options, there, sink, CardOf(), (uri, "runs"))
    again = found.result.as_data()
    if any(again[key] != value for key, value in recorded.items()):
        _log.warning("%s: running its recipe here gave a different network; the one in the folder was exported", folder)
    return found


def _write(
    recipe: Target,
    to: Path,
    options: ExportOptions,
    there: Where,
    sink: Sink | None,
    about: CardOf,
    server: Server,
    search: Mapping[str, Any] | None = None,
) -> Export:
    """Run a recipe to the end and write everything that an export holds.

    Args:
        recipe: canonical blocks, or the folder of a finished run.
        to: the folder that is written.
        options: what is added.
        there: storage, data and code.
        sink: receives the progress.
        about: what the card says of where it comes from.
        server: tracking URI and experiment of a model that is registered.
        search: the search block of the search that it comes from; None of a run.
    """
    from prune_search.exports.folder import export_folder
    from prune_search.exports.hugging_face import save, tokenizer_of
    from prune_search.exports.networks import add_costs, costs_of, describe_finished, write_networks
    from prune_search.storage.measurements import Measurements

    result = _result(recipe, to, there, sink, search)
    repeats = {}
    for seed in range(1, options.seeds):
        other = result.recipe.seed + seed
        repeats[other] = run(recipe, set={"task.seed": other}, where=there, sink=sink).metrics
    finished = _finished(result, there)
    networks = describe_finished(finished, options.round_to)
    costs = costs_of(finished, networks, Measurements(there.storage_folder()))
    write_networks(to, networks)
    tokenizer = tokenizer_of(result.recipe, there.data_folder())
    saved = save(finished.model, networks.graph, finished.inputs, to, tokenizer)
    if saved is not None:
        costs = {**costs, "huggingface": saved.as_data()}
    add_costs(to, costs)
    onnx = _write_onnx(to, finished, networks) if options.onnx else None
    version = None
    if options.register is not None:
        version = _register(to, options.register, server, finished, networks, _told(result, about))
    known = replace(about, repeats=repeats, costs=costs, registered=options.register)
    export_folder(result, to, replace(known, onnx=onnx))
    apart = None if onnx is None else onnx.apart
    return Export(to, result, costs, apart, version, None if version is None else masked(server[0]))


def _result(recipe: Target, to: Path, there: Where, sink: Sink | None, search: Mapping[str, Any] | None) -> Result:
    """What a recipe results in. What several workers have trained together is taken as they stored it."""
    if search is None or not workers_of(search).several:
        return run(recipe, where=there, out=to, sink=sink)
    found = run_stored(recipe, search, where=there, out=to, sink=sink)
    if found is None:
        _log.warning("%s: not all that its workers stored is there, so this process trains it again", to.name)
    return found or run(recipe, where=there, out=to, sink=sink)


def _finished(result: Result, where: Where) -> Finished:
    from prune_search.exports.networks import Finished
    from prune_search.tasks.experts import close_routes
    from prune_search.trial.data_and_network import finished_model, read_data
    from prune_search.trial.started_network import fitted_to

    data = read_data(result.recipe, where.data_folder(), where.code())
    model = finished_model(result.recipe, data, where.code(), result.tensors, where.data_folder())
    close_routes(model, result.masks)
    data = fitted_to(model, data)
    identity = {"weights": result.weights_sha256, "mask": result.masks.sha256, "torch": result.environment["torch"]}
    inputs = data.validation.first(EXAMPLES)
    return Finished(model, result.masks, inputs, identity, result.recipe.train.threads)


def _described(networks: Networks, option: str) -> nn.Module:
    if networks.compact is None:
        text = f"needs a network that can be described as data; this one cannot: {networks.reason}"
        raise UserError([Problem(option, text)])
    return networks.compact


def _write_onnx(to: Path, finished: Finished, networks: Networks) -> OnnxFile:
    from prune_search.exports.card_loading import OnnxFile
    from prune_search.exports.onnx_file import fixed_length, write_onnx
    from prune_search.tasks.batches import named_tensors

    model = networks.smallest or finished.model
    apart = write_onnx(model, to, finished.inputs)
    return OnnxFile(apart, tuple(named_tensors(model, finished.inputs)), fixed_length(to))


def _told(result: Result, about: CardOf) -> ModelOrigin:
    """What the registry is told of a network."""
    from prune_search.exports.folder import title
    from prune_search.tracking.model_registry import ModelOrigin

    figures = {name: f"{value:.6g}" for name, value in result.metrics.items() if name.startswith(("test/", "val/"))}
    tags = {
        "paradigm": result.paradigm,
        "sparsity": f"{result.receipt.reached:.6g}",
        "trial.key": result.key,
        "mask.sha256": result.masks.sha256,
        **({} if about.search_name is None else {"search": about.search_name, "trial": about.trial or ""}),
        **{name.replace("/", "."): value for name, value in figures.items()},
    }
    return ModelOrigin(title(result, about), tags, about.run)


def _register(to: Path, name: str, server: Server, finished: Finished, networks: Networks, origin: ModelOrigin) -> str:
    import torch

    from prune_search.tracking.model_registry import register

    model, inputs = _described(networks, "--register"), finished.inputs[:2]
    with torch.no_grad():
        outputs = model(inputs).numpy()
    return register(to, name, *server, inputs.numpy(), outputs, origin)
