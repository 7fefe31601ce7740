"""Says on the model card how to load the exported network, in each of the forms that the folder holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prune_search.compact.file_names import HUGGING_FACE_FOLDER, PROGRAM_FILE
from prune_search.exports.card_units import scaled
from prune_search.exports.model_code import loading_code
from prune_search.trial.result import Result

HERE = "."


@dataclass(frozen=True)
class OnnxFile:
    """What model.onnx is.

    Attributes:
        apart: how far its outputs are from torch's.
        inputs: names of its inputs.
        length: the only length of texts that it takes; None where it takes any.
    """

    apart: float
    inputs: Sequence[str] = ("x",)
    length: int | None = None


def loading(result: Result, costs: Mapping[str, Any], onnx: OnnxFile | None, registered: str | None) -> str:
    """How the network is had again, in each of the forms that lie here.

    Args:
        result: the run.
        costs: of `networks.costs_of`; empty where there are none.
        onnx: what model.onnx is; None where there is none.
        registered: the name of the registered MLflow model, or None.
    """
    parts = []
    if costs.get("described") is True:
        line = f'network = prune_search.load("{HERE}").network()  # the compact network; .model is the masked one'
        parts += ["With prune_search, from config.json and safetensors, without the model's class:"]
        parts += [fenced(f"import prune_search\n\n{line}", "py")]
    if costs.get("huggingface"):
        parts += _with_transformers(costs["huggingface"])
    if costs.get("program"):
        takes = _sizes_taken(costs.get("program_batch"), costs.get("program_length"))
        line = f'network = torch.export.load("{PROGRAM_FILE}").module()  # the compact network; eval mode, {takes}'
        parts += [
            "With plain torch, from program.pt2, without the model's class; it takes the input tensors one by one:"
        ]
        parts += [fenced(f"import torch\n\n{line}", "py")]
    if onnx is not None:
        names = ", ".join(f"`{name}`" for name in onnx.inputs)
        word = "input" if len(onnx.inputs) == 1 else "inputs"
        takes = _sizes_taken(None, onnx.length)
        text = f"`model.onnx`: {word} {names}, output `y`, {takes}; outputs within {onnx.apart:.0e} of torch's."
        parts += [f"With onnxruntime, from {text}"]
    if registered is not None:
        parts += ["With MLflow, where it was registered:"]
        parts += [fenced(f'mlflow.pyfunc.load_model("models:/{registered}@champion").predict(inputs)', "py")]
    if costs.get("experts"):
        told = ", ".join(f"{went} of {count} in {name}" for name, (went, count) in costs["experts"].items())
        parts += [
            f"Experts that were removed: {told}. The compact network has neither them nor their rows of the router."
        ]
    code = loading_code(result.recipe, result.tensors, "experts" in costs)
    parts += ["Plain torch and safetensors, from this folder:", fenced(code, "python")]
    return "\n\n".join(parts)


def _sizes_taken(batch: int | None, length: int | None) -> str:
    """What batches and texts a program takes, where the network's code does not fix them."""
    batches = "any batch" if batch is None else f"batches of {batch} only: the network's code fixes them"
    return batches if length is None else f"{batches}; texts of {length} only: the network's code fixes them"


def _with_transformers(saved: Mapping[str, Any]) -> list[str]:
    """How transformers opens the network, and which network that is."""
    if saved["whole"]:
        which = f"the whole network, with zeros where weights are pruned, since {saved['whole']}"
    else:
        which = "the compact network, whose configuration says its sizes: "
        which += ", ".join(f"{name} {now} instead of {before}" for name, (before, now) in saved["config"].items())
    size = f"{saved['parameters']:,} parameters, {scaled(saved['bytes'], 'B')}"
    line = f'network = {saved["class"]}.from_pretrained("{HUGGING_FACE_FOLDER}")'
    code = f"from transformers import {saved['class']}\n\n{line}"
    return [f"With transformers alone, from `{HUGGING_FACE_FOLDER}/`: {which} ({size}):", fenced(code, "py")]


def fenced(text: str, language: str) -> str:
    """A block of code in Markdown."""
    return f"```{language}\n{text}\n```"
