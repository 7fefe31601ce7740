"""Small tasks of every kind, as people write them: ``made_tasks:regression`` and the others, for ``--task``."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from prune_search import Task

Arrays = tuple[Tensor, Tensor]


def _drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def perceptron(inputs: int, outputs: int) -> nn.Sequential:
    """Two hidden layers of 16."""
    return nn.Sequential(*(nn.Linear(inputs, 16), nn.ReLU()), *(nn.Linear(16, 16), nn.ReLU()), nn.Linear(16, outputs))


def _table(count: int, seed: int) -> Arrays:
    inputs = torch.randn(count, 6, generator=_drawn(seed))
    return inputs, inputs[:, 0] * inputs[:, 1] + inputs[:, 2]


def regression() -> Task:
    """Numbers of a table."""
    return Task(lambda: perceptron(6, 1), _table(160, 0), 0.2, _table(40, 1), loss="mse", metrics=["r2"])


class Labelled(Dataset[tuple[Any, Any]]):
    """Examples of four labels, of which each can hold; read one by one."""

    def __init__(self, count: int, seed: int) -> None:
        self.inputs = torch.randn(count, 6, generator=_drawn(seed))
        self.held = (self.inputs[:, :4] + 0.3 * self.inputs[:, 1:5] > 0).float()

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """An example with noise, which is drawn when it is read."""
        return self.inputs[index] + 0.01 * torch.randn(6), self.held[index]


def multi_label() -> Task:
    """Labels of which several hold."""
    train, test = Labelled(120, 0), Labelled(40, 1)
    return Task(lambda: perceptron(6, 4), train, 0.25, test, loss="binary-cross-entropy", metrics=["f1"])


def _rare(count: int, seed: int) -> Arrays:
    inputs = torch.randn(count, 6, generator=_drawn(seed))
    return inputs, (inputs[:, 0] + inputs[:, 1] > 1.8).long()


def imbalanced() -> Task:
    """Two classes, of which one is rare and weighs more."""
    loss = {"name": "cross-entropy", "class_weights": [1.0, 8.0]}
    return Task(lambda: perceptron(6, 2), _rare(200, 0), _rare(80, 1), _rare(80, 2), loss=loss, metrics=["auroc"])


class SmallGPT(nn.Module):
    """A decoder of one block, whose output layer is its embedding."""

    def __init__(self, tokens: int, width: int = 16, length: int = 24) -> None:
        super().__init__()
        self.embedding, self.places = nn.Embedding(tokens, width), nn.Embedding(length, width)
        self.norm, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.back = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, tokens, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [B, T, V] of tokens [B, T]."""
        found = self.embedding(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        parts = self.attend(self.norm(found)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
        found = found + self.back(mixed.transpose(1, 2).flatten(2))
        scores: Tensor = self.head(found + self.narrow(nn.functional.gelu(self.wide(self.after(found)))))
        return scores


@cache
def _text(root: str | None) -> str:
    files = sorted(Path(root, "tinyshakespeare").glob("*.txt")) if root else []
    if files:
        return files[0].read_text(encoding="utf-8")[:6000]
    words = ["to", "be", "or", "not", "that", "is", "the", "question", "whether", "nobler", "in", "mind", "suffer"]
    draw = random.Random(0)
    return " ".join(draw.choice(words) for _ in range(1200))[:6000]


def language_model(root: Path | None = None) -> Task:
    """The next character of a text."""
    text = _text(None if root is None else str(root))
    known = {char: number for number, char in enumerate(sorted(set(text)))}
    tokens = torch.tensor([known[char] for char in text])[: 240 * 24].view(240, 24)
    train, validation, test = ((part, part) for part in (tokens[:160], tokens[160:200], tokens[200:]))
    return Task(
        lambda: SmallGPT(len(known)),
        *(train, validation, test),
        loss="causal-language-model",
        metrics=["bits-per-byte", "perplexity"],
    )


def _sequences(count: int, seed: int) -> dict[str, Tensor]:
    tokens = torch.randint(3, 32, (count, 10), generator=_drawn(seed))
    return {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "labels": (tokens[:, 1] > 17).long() + (tokens[:, 2] > 17).long(),
    }


# Of the smallest transformers.
SMALLEST = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "num_labels": 3,
}


def _bert() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    make = BertConfig
    network: nn.Module = BertForSequenceClassification(make(vocab_size=32, max_position_embeddings=16, **SMALLEST))
    return network


def bert() -> Task:
    """Classes of sequences; the network brings its loss."""
    return Task(_bert, _sequences(96, 0), _sequences(32, 1), _sequences(32, 2), metrics=["accuracy"])


def _pictures(count: int, seed: int) -> dict[str, Tensor]:
    pixels = torch.randn(count, 3, 16, 16, generator=_drawn(seed))
    labels = torch.arange(count) % 3
    pixels[torch.arange(count), labels] += 0.5
    return {"pixel_values": pixels, "labels": labels}


def _vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    make = ViTConfig
    network: nn.Module = ViTForImageClassification(make(image_size=16, patch_size=8, **SMALLEST))
    return network


def vit() -> Task:
    """Classes of pictures by a transformer."""
    return Task(_vit, _pictures(96, 0), _pictures(32, 1), _pictures(32, 2))


def _convnext() -> nn.Module:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    make = ConvNextConfig
    config = make(hidden_sizes=[8, 12], depths=[1, 1], num_stages=2, patch_size=2, image_size=16, num_labels=3)
    network: nn.Module = ConvNextForImageClassification(config)
    return network


def convnext() -> Task:
    """Classes of pictures by convolutions of depth one."""
    return Task(_convnext, _pictures(96, 0), _pictures(32, 1), _pictures(32, 2))


class SmallUNet(nn.Module):
    """One level down and up again, with a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.up, self.last = nn.ConvTranspose2d(8, 6, 2, stride=2), nn.Conv2d(12, 1, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures [B, 1, H, W] of the same size."""
        high = self.first(pictures).relu()
        low = self.up(self.down(high).relu()).relu()
        picture: Tensor = self.last(torch.cat([high, low], 1))
        return picture


def _noisy(count: int, seed: int) -> Arrays:
    draw = _drawn(seed)
    clean = nn.functional.interpolate(torch.rand(count, 1, 3, 3, generator=draw), (12, 12), mode="bilinear")
    return clean + 0.2 * torch.randn(clean.shape, generator=draw), clean


def unet() -> Task:
    """Noise removed from pictures."""
    return Task(SmallUNet, _noisy(96, 0), _noisy(24, 1), _noisy(24, 2), loss="mse", metrics=["psnr"])


class TwoInputs(nn.Module):
    """Two towers and a head; its inputs are named."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.numbers = nn.EmbeddingBag(20, 8), nn.Linear(4, 8)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))

    def forward(self, *, words: Tensor, numbers: Tensor) -> dict[str, Tensor]:
        """Logits [B, 3] of words [B, T] and numbers [B, 4]."""
        return {"logits": self.head(torch.cat([self.words(words), self.numbers(numbers)], 1))}


class Pairs(Dataset[dict[str, Any]]):
    """Examples as mappings, of numpy arrays and numbers."""

    def __init__(self, count: int, seed: int) -> None:
        draw = numpy.random.default_rng(seed)
        self.words = draw.integers(0, 20, (count, 5))
        self.numbers = draw.normal(size=(count, 4)).astype(numpy.float32)

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Words, numbers and the class; the identity is for nobody's eyes."""
        label = int(self.words[index, 0] > 9) + int(self.numbers[index, 0] > 0)
        return {"words": self.words[index], "numbers": self.numbers[index], "label": label, "identity": f"no {index}"}


def two_inputs() -> Task:
    """Two inputs by name."""
    return Task(TwoInputs, Pairs(96, 0), Pairs(32, 1), Pairs(32, 2), classes=3)


class Counted(IterableDataset[Arrays]):
    """A stream whose place can be stored: drawn examples, `count` a pass."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self.place = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Arrays]:
        while self.place < self.count:
            inputs = torch.randn(6, generator=_drawn(1000 * self.seed + self.place))
            self.place += 1
            yield inputs, (inputs[0] > 0).long() + (inputs[1] > 0).long()
        self.place = 0

    def state_dict(self) -> dict[str, Any]:
        """Its place."""
        return {"place": self.place}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on there."""
        self.place = int(state["place"])


class Endless(Counted):
    """A stream that does not say how many examples it has."""

    def __len__(self) -> int:
        raise TypeError("no length")


def endless() -> Task:
    """Examples of a stream without a length."""
    return Task(lambda: perceptron(6, 3), Endless(96, 0), Counted(32, 1), classes=3)


def stream() -> Task:
    """Examples that come one after the other."""
    return Task(lambda: perceptron(6, 3), Counted(96, 0), Counted(32, 1), Counted(32, 2), classes=3)
