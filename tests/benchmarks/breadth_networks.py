"""24 architectures at small sizes for `breadth.py`: from transformers by config where it has them, the others here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prune_search.tasks.batches import Inputs

Made = tuple[nn.Module, Any]
NETWORKS: dict[str, Callable[[], Made]] = {}


def network(name: str) -> Callable[[Callable[[], Made]], Callable[[], Made]]:
    """Register an architecture."""

    def add(make: Callable[[], Made]) -> Callable[[], Made]:
        NETWORKS[name] = make
        return make

    return add


def pictures(side: int = 32) -> Tensor:
    """Two pictures [2, 3, side, side]."""
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def words(length: int = 12, vocabulary: int = 50) -> Tensor:
    """Two rows of tokens [2, length]."""
    return torch.randint(1, vocabulary, (2, length), generator=torch.Generator().manual_seed(0))


class Called(nn.Module):
    """A network of transformers that gives one tensor."""

    def __init__(self, inner: nn.Module, output: str, **fixed: Any) -> None:
        super().__init__()
        self.inner, self.output, self.fixed = inner, output, fixed

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.inner(x, **self.fixed), self.output)  # type: ignore[no-any-return]


def conv(inputs: int, outputs: int, side: int = 3, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    """Convolution, batch norm and ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, side, stride, side // 2, groups=groups, bias=False)]
    return nn.Sequential(*layers, nn.BatchNorm2d(outputs), *([nn.ReLU()] if act else []))


class Residual(nn.Module):
    """Of ResNet-18, or with groups the block of ResNeXt."""

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int = 1) -> None:
        super().__init__()
        if groups > 1:
            self.body = nn.Sequential(
                conv(inputs, outputs, 1),
                conv(outputs, outputs, 3, stride, groups),
                conv(outputs, outputs, 1, act=False),
            )
        else:
            self.body = nn.Sequential(conv(inputs, outputs, 3, stride), conv(outputs, outputs, 3, act=False))
        self.short = nn.Identity() if stride == 1 and inputs == outputs else conv(inputs, outputs, 1, stride, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.short(x))


class Pooled(nn.Module):
    """Features, their mean over the picture, and a linear layer."""

    def __init__(self, features: nn.Module, width: int, classes: int = 10) -> None:
        super().__init__()
        self.features, self.head = features, nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(F.adaptive_avg_pool2d(self.features(x), 1), 1))  # type: ignore[no-any-return]


def _resnet(groups: int) -> Made:
    blocks: list[nn.Module] = [conv(3, 16)]
    for inputs, outputs, stride in (
        (16, 16, 1),
        (16, 16, 1),
        (16, 32, 2),
        (32, 32, 1),
        (32, 64, 2),
        (64, 64, 1),
        (64, 128, 2),
        (128, 128, 1),
    ):
        blocks.append(Residual(inputs, outputs, stride, groups))
    return Pooled(nn.Sequential(*blocks), 128), pictures()


@network("resnet-18")
def resnet() -> Made:
    """He et al. 2015."""
    return _resnet(1)


@network("resnext")
def resnext() -> Made:
    """Xie et al. 2016: grouped convolutions."""
    return _resnet(8)


class Dense(nn.Module):
    """What all layers before made, joined."""

    def __init__(self, inputs: int, growth: int, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(inputs + growth * at),
                nn.ReLU(),
                conv(inputs + growth * at, 32, 1),
                nn.Conv2d(32, growth, 3, padding=1, bias=False),
            )
            for at in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


@network("densenet")
def densenet() -> Made:
    """Huang et al. 2016."""
    parts = [
        conv(3, 16),
        Dense(16, 8, 3),
        nn.BatchNorm2d(40),
        nn.ReLU(),
        nn.Conv2d(40, 20, 1),
        nn.AvgPool2d(2),
        Dense(20, 8, 3),
        nn.BatchNorm2d(44),
    ]
    return Pooled(nn.Sequential(*parts), 44), pictures()


class Inception(nn.Module):
    """Four branches, joined."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                conv(inputs, 16, 1),
                nn.Sequential(conv(inputs, 16, 1), conv(16, 24)),
                nn.Sequential(conv(inputs, 8, 1), conv(8, 16, 5)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(inputs, 8, 1)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


@network("googlenet")
def googlenet() -> Made:
    """Szegedy et al. 2014."""
    return Pooled(nn.Sequential(conv(3, 16, 3, 2), Inception(16), nn.MaxPool2d(2), Inception(64)), 64), pictures()


class ShuffleUnit(nn.Module):
    """One half passes, the other is convolved, and both are shuffled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.body = nn.Sequential(conv(half, half, 1), conv(half, half, 3, groups=half, act=False), conv(half, half, 1))

    def forward(self, x: Tensor) -> Tensor:
        past, through = x.chunk(2, 1)
        x = torch.cat([past, self.body(through)], 1)
        count, channels, height, width = x.shape
        return x.view(count, 2, channels // 2, height, width).transpose(1, 2).reshape(count, channels, height, width)


@network("shufflenet-v2")
def shufflenet() -> Made:
    """Ma et al. 2018."""
    return Pooled(nn.Sequential(conv(3, 32, 3, 2), ShuffleUnit(32), ShuffleUnit(32), conv(32, 64, 1)), 64), pictures()


class UNet(nn.Module):
    """Two levels with skip connections and transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (
            nn.Sequential(conv(i, o), conv(o, o)) for i, o in ((3, 16), (16, 32), (32, 64))
        )
        self.up2, self.up1 = nn.ConvTranspose2d(64, 32, 2, 2), nn.ConvTranspose2d(32, 16, 2, 2)
        self.back2, self.back1, self.out = conv(64, 32), conv(32, 16), nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.first(x)
        two = self.second(F.max_pool2d(one, 2))
        x = self.third(F.max_pool2d(two, 2))
        x = self.back2(torch.cat([self.up2(x), two], 1))
        return self.out(self.back1(torch.cat([self.up1(x), one], 1)))  # type: ignore[no-any-return]


@network("u-net")
def unet() -> Made:
    """Ronneberger et al. 2015."""
    return UNet(), pictures()


@network("transposed-decoder")
def decoder() -> Made:
    """From 16 numbers to a picture (Radford et al. 2015, DCGAN)."""
    parts = [nn.Unflatten(1, (16, 1, 1)), nn.ConvTranspose2d(16, 64, 4), nn.BatchNorm2d(64), nn.ReLU()]
    parts += [
        nn.ConvTranspose2d(64, 32, 4, 2, 1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 3, 4, 2, 1),
        nn.Tanh(),
    ]
    return nn.Sequential(*parts), torch.randn(2, 16, generator=torch.Generator().manual_seed(0))


class GatedConv(nn.Module):
    """A causal depthwise convolution under a gate, as Mamba's block has around its scan."""

    def __init__(self, width: int = 24, inner: int = 48) -> None:
        super().__init__()
        self.norm, self.wide = nn.LayerNorm(width), nn.Linear(width, 2 * inner)
        self.conv, self.back = nn.Conv1d(inner, inner, 4, padding=3, groups=inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        through, gate = self.wide(self.norm(x)).chunk(2, -1)
        through = self.conv(through.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
        return x + self.back(F.silu(through) * F.silu(gate))  # type: ignore[no-any-return]


class Tokens(nn.Module):
    """Embedded tokens, a body, and scores of the last place."""

    def __init__(self, body: nn.Module, width: int, outputs: int, out: int = 5) -> None:
        super().__init__()
        self.embed, self.body, self.head = nn.Embedding(50, width), body, nn.Linear(outputs, out)

    def forward(self, x: Tensor) -> Tensor:
        found = self.body(self.embed(x))
        return self.head((found[0] if isinstance(found, tuple) else found)[:, -1])  # type: ignore[no-any-return]


@network("gated-conv")
def gated() -> Made:
    """The block of Gu and Dao 2023 without its scan."""
    return Tokens(nn.Sequential(GatedConv(), GatedConv()), 24, 24), words()


@network("lstm-classifier")
def lstm() -> Made:
    """Two levels in two directions."""
    return Tokens(nn.LSTM(24, 32, 2, batch_first=True, bidirectional=True), 24, 64), words()


@network("gru-classifier")
def gru() -> Made:
    """Two levels."""
    return Tokens(nn.GRU(24, 32, 2, batch_first=True), 24, 32), words()


class TwoInputs(nn.Module):
    """A picture and a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.picture, self.vector = nn.Sequential(conv(3, 16, 3, 2), conv(16, 32, 3, 2)), nn.Linear(7, 32)
        self.joined, self.out = nn.Linear(64, 32), nn.Linear(32, 5)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        seen = self.picture(x).mean((2, 3))
        return self.out(F.relu(self.joined(torch.cat([seen, F.relu(self.vector(y))], 1))))  # type: ignore[no-any-return]


@network("two-inputs")
def two_inputs() -> Made:
    """Two branches, joined."""
    return TwoInputs(), Inputs((pictures(), torch.randn(2, 7, generator=torch.Generator().manual_seed(1))))


class WideAndDeep(nn.Module):
    """A linear model beside a perceptron on embeddings (Cheng et al. 2016, 1606.07792)."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.tables = nn.Linear(8, 2), nn.ModuleList(nn.Embedding(50, 8) for _ in range(3))
        self.deep = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, numbers: Tensor, kinds: Tensor) -> Tensor:
        parts = [table(kinds[:, at]) for at, table in enumerate(self.tables)]
        return self.wide(numbers) + self.deep(torch.cat([numbers, *parts], 1))  # type: ignore[no-any-return]


@network("wide-and-deep")
def wide_and_deep() -> Made:
    """Tables."""
    return WideAndDeep(), Inputs((torch.randn(2, 8, generator=torch.Generator().manual_seed(1)), words(3)))


class Experts(nn.Module):
    """The two best of four gated experts, weighted."""

    def __init__(self, width: int = 24, inner: int = 32) -> None:
        super().__init__()
        self.norm, self.router = nn.LayerNorm(width), nn.Linear(width, 4)
        self.experts = nn.ModuleList(
            nn.ModuleList([nn.Linear(width, inner), nn.Linear(width, inner), nn.Linear(inner, width)]) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = self.norm(x)
        best, places = self.router(seen).softmax(-1).topk(2, -1)
        made = x
        for at, expert in enumerate(self.experts):
            gate, up, down = cast(nn.ModuleList, expert)
            share = (best * (places == at)).sum(-1, keepdim=True)
            made = made + share * down(F.silu(gate(seen)) * up(seen))
        return made


@network("mixture-of-experts")
def experts() -> Made:
    """Shazeer et al. 2017."""
    return Tokens(nn.Sequential(Experts(), Experts()), 24, 24), words()


class Neck(nn.Module):
    """Features of two sizes, joined downwards and upwards, and two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = conv(3, 16, 3, 2), conv(16, 32, 3, 2)
        self.side, self.up, self.down = conv(32, 16, 1), conv(32, 16), conv(16, 32, 3, 2)
        self.joined, self.small, self.large = conv(48, 32), nn.Conv2d(16, 6, 1), nn.Conv2d(32, 6, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.stem(x)
        side = self.side(self.deep(fine))
        high = self.up(torch.cat([F.interpolate(side, scale_factor=2.0), fine], 1))
        low = self.joined(torch.cat([self.down(high), side], 1))
        return self.small(high), self.large(low)


@network("yolo-neck")
def neck() -> Made:
    """As detectors have it."""
    return Neck(), pictures()


def _of(config: str, model: str, example: Tensor, sizes: dict[str, Any], **fixed: Any) -> Made:
    """A network of transformers.

    Args:
        config: the class of its sizes.
        model: its class.
        example: what it is called with.
        sizes: of the network.
        fixed: what it is called with besides.
    """
    import transformers

    made = getattr(transformers, model)(getattr(transformers, config)(**sizes))
    return Called(made, "logits", return_dict=True, **fixed), example


@network("mobilenet-v2")
def mobilenet() -> Made:
    """Sandler et al. 2018."""
    return _of(
        "MobileNetV2Config",
        "MobileNetV2ForImageClassification",
        pictures(),
        {"depth_multiplier": 0.35, "num_labels": 10},
    )


@network("efficientnet")
def efficientnet() -> Made:
    """Tan and Le 2019, squeeze and excitation."""
    sizes = {
        "kernel_sizes": [3, 3],
        "in_channels": [32, 16],
        "out_channels": [16, 24],
        "strides": [1, 2],
        "num_block_repeats": [1, 2],
        "expand_ratios": [1, 4],
        "depthwise_padding": [],
    }
    return _of(
        "EfficientNetConfig",
        "EfficientNetForImageClassification",
        pictures(),
        {"width_coefficient": 1.0, "hidden_dim": 1280, "depth_coefficient": 1.0, "num_labels": 10, **sizes},
    )


@network("regnet")
def regnet() -> Made:
    """Radosavovic et al. 2020."""
    sizes = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 2], "groups_width": 8, "layer_type": "y"}
    return _of("RegNetConfig", "RegNetForImageClassification", pictures(), {"num_labels": 10, **sizes})


@network("convnext")
def convnext() -> Made:
    """Liu et al. 2022."""
    sizes = {"hidden_sizes": [16, 32], "depths": [2, 2], "num_stages": 2, "layer_scale_init_value": 1.0}
    return _of("ConvNextConfig", "ConvNextForImageClassification", pictures(), {"num_labels": 10, **sizes})


_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


@network("vit")
def vit() -> Made:
    """Dosovitskiy et al. 2020."""
    return _of(
        "ViTConfig",
        "ViTForImageClassification",
        pictures(),
        {"image_size": 32, "patch_size": 8, "num_labels": 10, **_SMALL},
    )


@network("swin")
def swin() -> Made:
    """Liu et al. 2021: windows, shifted."""
    sizes = {
        "image_size": 32,
        "patch_size": 4,
        "embed_dim": 16,
        "depths": [2, 2],
        "num_heads": [2, 4],
        "window_size": 4,
    }
    return _of("SwinConfig", "SwinForImageClassification", pictures(), {"num_labels": 10, **sizes})


@network("bert")
def bert() -> Made:
    """Devlin et al. 2018."""
    return _of(
        "BertConfig",
        "BertForSequenceClassification",
        words(),
        {"vocab_size": 50, "max_position_embeddings": 32, **_SMALL},
    )


@network("gpt-2")
def gpt2() -> Made:
    """Radford et al. 2019: Conv1D, tied embeddings."""
    sizes = {"vocab_size": 50, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 4}
    return _of("GPT2Config", "GPT2LMHeadModel", words(), {**sizes}, use_cache=False)


@network("llama")
def llama() -> Made:
    """Touvron et al. 2023: rotary embeddings, RMS norm, SwiGLU, two heads of keys for four of queries."""
    return _of(
        "LlamaConfig",
        "LlamaForCausalLM",
        words(),
        {"vocab_size": 50, "num_key_value_heads": 2, "max_position_embeddings": 32, **_SMALL},
        use_cache=False,
    )


class T5(nn.Module):
    """Encoder and decoder on the same words."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(input_ids=x, decoder_input_ids=x, use_cache=False).logits  # type: ignore[no-any-return]


@network("t5")
def t5() -> Made:
    """Raffel et al. 2019."""
    import transformers

    config = transformers.T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    return T5(transformers.T5ForConditionalGeneration(config)), words()
