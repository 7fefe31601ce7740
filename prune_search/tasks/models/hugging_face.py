"""The networks of transformers: pretrained, or with random weights from a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import MODELS
from prune_search.recipe.facts import Model
from prune_search.recipe.fields import Settings, Text, Word
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    from torch import nn

CLASSES = ("causal-lm", "masked-lm", "sequence-classification", "token-classification", "image-classification")
SOURCE = "Wolf et al. 2020, arXiv 1910.03771"


def _always(**options: object) -> bool:
    return True


@MODELS.register(
    "hf",
    member="ID_OR_FOLDER",
    summary="a pretrained network of transformers: a folder, or its name on the Hub",
    source=SOURCE,
    options={
        "class": Option(Word(CLASSES), None, "task of its head; default: from its configuration"),
        "gguf": Option(Text(), None, "GGUF file in the folder to read the weights from; hf/FILE.gguf is short for it"),
        "config": Option(Settings(), {}, "values of its configuration to change"),
    },
    facts=Model(trained=_always, rooted=True),
)
def pretrained_network(
    shape: tuple[int, ...], classes: int, *, config: Mapping[str, Any], member: str, root: Path | None, **options: Any
) -> nn.Module:
    """A network with its trained weights, in float32; a head of another size is drawn, and it is said.

    Args:
        shape: of one example: (channels, height, width) of images, (tokens,) of text.
        classes: number of classes, or of tokens.
        config: values of its configuration that are to be others.
        member: a folder or a GGUF file, absolute or below `root` or the working directory; else a name that
            transformers looks up.
        root: the folder of --data-root, or None.
        options: ``class`` and ``gguf``.

    Raises:
        UserError: transformers is missing, or cannot read it; the data do not fit it.
    """
    from prune_search.tasks.kinds.hugging_face import pretrained

    return pretrained(shape, classes, member, root, options.get("class"), config, options.get("gguf"))


@MODELS.register(
    "hf-config",
    member="TYPE",
    summary="a network of transformers with random weights, such as hf-config/bert",
    source=SOURCE,
    options={
        "class": Option(Word(CLASSES), doc="what its head does"),
        "config": Option(Settings(), {}, "values of its configuration, such as num_hidden_layers"),
    },
)
def random_network(
    shape: tuple[int, ...], classes: int, *, config: Mapping[str, Any], member: str, **options: Any
) -> nn.Module:
    """A network with random weights. Sizes that the configuration leaves out are those of the data.

    Args:
        shape: of one example: (channels, height, width) of images, (tokens,) of text.
        classes: number of classes, or of tokens.
        config: values of its configuration.
        member: the type of network, as transformers calls it.
        options: ``class``.

    Raises:
        UserError: transformers is missing, or has no such type, head or value.
    """
    from prune_search.tasks.kinds.hugging_face import random_weights

    return random_weights(shape, classes, member, options["class"], config)
