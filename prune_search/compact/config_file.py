"""Reads and writes the networks of an exported folder: config.json and tensor files. No classes, no pickle.

config.json holds ``{"format": 1, "networks": {NAME: {"weights": FILE, "input": SHAPE, "nodes": […]}}}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prune_search.compact.file_names import MODEL_FILE
from prune_search.compact.graph import Described, Description, build, read
from prune_search.recipe.problems import Problem, UserError, not_one_of, shown
from prune_search.storage.files import one_line, open_regular
from prune_search.storage.tensors import load_tensors
from prune_search.tasks.fusion import is_record

CONFIG_FILE, COMPACT_FILE = "config.json", "compact.safetensors"
MASKED, COMPACT = "masked", "compact"
FILES = {MASKED: MODEL_FILE, COMPACT: COMPACT_FILE}
FORMAT = 1
MAX_BYTES = 64 * 2**20


def config(networks: Mapping[str, Described]) -> bytes:
    """config.json of some of `FILES`' networks."""
    described = {name: {"weights": FILES[name], **network.description.as_data()} for name, network in networks.items()}
    content = {"format": FORMAT, "made_by": "prune_search", "networks": described}
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def read_config(folder: Path) -> dict[str, Description]:
    """The networks that a folder describes, by name. Nothing in it is run.

    Raises:
        UserError: config.json is missing, too large, or says anything that is not on the list.
    """
    path = folder / CONFIG_FILE
    try:
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"is larger than {MAX_BYTES} bytes")
        content = json.loads(data, parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError([Problem("", f"cannot be read: {one_line(error)}", str(path))]) from None
    if not isinstance(content, dict) or not isinstance(content.get("networks"), dict):
        raise UserError([Problem("", "contains no networks", str(path))])
    if content.get("format") != FORMAT:
        text = f"has format {shown(content.get('format'))}; this prune-search reads format {FORMAT}"
        raise UserError([Problem("", text, str(path))])
    return {name: _described(name, raw, path) for name, raw in content["networks"].items()}


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def _described(name: str, raw: Any, path: Path) -> Description:
    if name not in FILES:
        raise UserError([Problem("networks", not_one_of(name, FILES), str(path))])
    if not isinstance(raw, dict) or raw.get("weights") != FILES[name]:
        raise UserError([Problem(f"networks.{name}", f"must keep its weights in {FILES[name]}", str(path))])
    return read({key: value for key, value in raw.items() if key != "weights"}, f"{path}: networks.{name}")


def load_network(folder: Path, name: str = COMPACT) -> Described:
    """A network of a folder that may come from anywhere, in evaluation mode.

    Args:
        folder: with config.json and the network's tensors.
        name: ``compact`` or ``masked``.

    Raises:
        UserError: the folder does not describe it, or its tensors are others.
    """
    found = read_config(folder)
    if name not in found:
        raise UserError([Problem("networks", not_one_of(name, found), str(folder / CONFIG_FILE))])
    path = folder / FILES[name]
    # The description says already which layers stand for others.
    tensors = {key: tensor for key, tensor in load_tensors(path).items() if not is_record(key)}
    return build(found[name], tensors, str(path))
