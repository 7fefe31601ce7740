"""``prune-search export``: write the best network of a search to a folder that anyone can run again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prune_search.cli.arguments import Data, DataRoot, Device, Json, Model, Storage, TaskName, examples
from prune_search.cli.searches import Name
from prune_search.cli.verbs import VERBS, Verb

if TYPE_CHECKING:
    from prune_search.api.export import Export

EPILOG = examples(
    "prune-search export quickstart --to best",
    "prune-search export quickstart --to ticket --trial 012-lottery-ticket-s0.90 --seeds 3",
    "prune-search export quickstart --to best --onnx --register digits",
    "prune-search export quickstart --to front --pareto",
    "prune-search run snip --out ticket && prune-search export ticket --to ticket --onnx",
    "prune-search run best --verify",
)


@VERBS.register("export", facts=Verb(epilog=EPILOG))
def export(
    name: Name,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder to write.")],
    trial: Annotated[
        str | None, typer.Option("--trial", metavar="KEY", help="Trial to export, by name or key. Default: the best.")
    ] = None,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Export every trial on the Pareto front, each to its own folder under DIR.")
    ] = False,
    seeds: Annotated[
        int,
        typer.Option(
            "--seeds", help="Number of seeds to retrain with; the model card then shows mean ± standard deviation."
        ),
    ] = 1,
    onnx: Annotated[
        bool,
        typer.Option(
            "--onnx", help="Also write model.onnx (any batch size), checked against PyTorch with onnxruntime."
        ),
    ] = False,
    register: Annotated[
        str | None,
        typer.Option(
            "--register",
            metavar="NAME",
            help="Register the network in MLflow under this model name, with the alias `champion`.",
        ),
    ] = None,
    round_to: Annotated[
        int,
        typer.Option(
            "--round-to", help="Round the compact network's layer widths up to a multiple of this, e.g. 8 or 16."
        ),
    ] = 1,
    storage: Storage = None,
    data_root: DataRoot = None,
    task: TaskName = None,
    model: Model = None,
    data: Data = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Export the best network of a search as a model-hub folder: recipe, weights, masks, config.json and model card.

    NAME can also be the folder of a finished run (`run --out`).

    config.json describes the masked and the compact (smaller) network, so both load without the model's class. If you
    launched the search yourself, its model and data code is found automatically; otherwise pass --task, or --model
    and --data, again.
    """
    from prune_search.api.export import ExportOptions, export_pareto
    from prune_search.api.export import export as export_search
    from prune_search.api.where import Where
    from prune_search.cli.progress import watching

    where = Where(data_root, storage, model, data, device, task=task)
    options = ExportOptions(trial, seeds, onnx, register, round_to)
    with watching(quiet=as_json and not sys.stderr.isatty()) as sink:
        if pareto:
            found = export_pareto(name, to, options=options, where=where, sink=sink)
        else:
            found = [export_search(name, to, options=options, where=where, sink=sink)]
    if as_json:
        folders = [item.as_data() for item in found]
        typer.echo(json.dumps({"folders": folders} if pareto else folders[0], allow_nan=False))
        return
    for item in found:
        _show(item, register)


def _show(item: Export, register: str | None) -> None:
    from prune_search.cli.summary import show_result

    show_result(item.result, item.folder)
    sizes = item.costs["sizes"]
    figures = (
        f"{sizes[f'compact {what}']:,.0f} of {sizes[f'dense {what}']:,.0f} {what}" for what in ("parameters", "flops")
    )
    typer.echo("compact   " + "  ".join(figures))
    if saved := item.costs.get("huggingface"):
        holds = f"the whole network: {saved['whole']}" if saved["whole"] else "the compact network"
        typer.echo(f"hf        {item.folder / 'huggingface'}  {saved['parameters']:,} parameters, {holds}")
    if item.onnx_apart is not None:
        typer.echo(f"onnx      {item.folder / 'model.onnx'}  within {item.onnx_apart:.0e} of torch")
    if item.version is not None:
        typer.echo(f"mlflow    models:/{register}@champion  version {item.version}  at {item.tracking_uri}")
