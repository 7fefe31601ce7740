"""Imports packages that only some recipes need; if one is missing, the error says how to install it."""

from __future__ import annotations

import importlib
from typing import Any

from prune_search.recipe.problems import Problem, UserError

# The extra that brings a package; one that is not named here is installed by its own name.
EXTRAS = {
    "PIL": "vision",
    "timm": "vision",
    "torchvision": "vision",
    "accelerate": "hf",
    "datasets": "hf",
    "gguf": "hf",
    "lm_eval": "lm-eval",
    "tokenizers": "hf",
    "transformers": "hf",
}
DISTRIBUTIONS = {"PIL": "Pillow", "lm_eval": "lm-eval"}


def package(module: str, who: str, key: str) -> Any:
    """An optional package, or a module of one.

    Args:
        module: as it is imported.
        who: what needs it, as a recipe names it.
        key: where that is written, for the message.

    Raises:
        UserError: it is not installed, or cannot be imported.
    """
    top = module.partition(".")[0]
    name = DISTRIBUTIONS.get(top, top)
    extra = EXTRAS.get(top)
    install = f"pip install 'prune_search[{extra}]'" if extra else f"pip install {name}"
    try:
        importlib.import_module(top)
    except ModuleNotFoundError as error:
        # A package that lacks one of its own is told by what is lacking.
        lacking = "" if error.name in (top, None) else f" ({name} lacks {error.name})"
        text = f"{who} needs the package {name}, which is not installed{lacking}: {install}"
        raise UserError([Problem(key, text)]) from error
    except Exception as error:  # whatever a broken build raises, a RuntimeError of torchvision for one
        text = f"{who} needs the package {name}, which cannot be imported here: {said(error)}"
        raise UserError([Problem(key, text)]) from error
    try:
        return importlib.import_module(module)
    except Exception as error:
        text = f"{who} needs {module}, which this version of {name} does not have or cannot import: {said(error)}"
        raise UserError([Problem(key, text)]) from error


def said(error: BaseException, limit: int = 300) -> str:
    """What an error of another library says, on one line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
