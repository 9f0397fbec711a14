"""What the files of networks share: how builders answer, how weights begin, how layers are run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ... import nn
from ...engine import Tensor
from ...nn import fusion

Rule = Callable[[Tensor], Any]
Layer = Callable[..., nn.Module]

BUILDERS: dict[str, Callable[..., nn.Module]] = {}


def builder(name: str, network: Callable[..., nn.Module], *setting: Any, **defaults: Any) -> Any:
    """torchvision's function of that name: network(*setting), with what the call says."""

    def build(
        weights: Any = None, progress: bool = True, pretrained: bool = False, **options: Any
    ) -> nn.Module:
        if weights not in (None, False) or pretrained:
            raise ValueError(
                f"{name}: trained weights cannot be fetched here, got "
                + (f"weights={weights!r}" if weights else "pretrained=True")
                + f"; build {name}() and load a file that you have:"
                f' model.load_state_dict(minigrad.load("{name}.pth"))'
            )
        return network(*setting, **{**defaults, **options})

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"""{network.__name__} as torchvision.models.{name} builds it, untrained.

    options: those of {network.__name__}, of which num_classes is 1,000 by default; progress is
    ignored. Raises ValueError for trained weights, with the way to load a file of them.
    """
    BUILDERS[name] = build
    return build


def list_models() -> list[str]:
    """The names of the functions that build a network."""
    return sorted(BUILDERS)


def get_model(name: str, **config: Any) -> nn.Module:
    """The network of that name, built with the options. Raises ValueError."""
    found = BUILDERS.get(name.lower())
    if found is None:
        raise ValueError(f"get_model: name must be of {', '.join(list_models())}, got {name!r}")
    return found(**config)


def initialise(
    model: nn.Module, convolution: Rule, linear: Rule | None = None, zero_bias: bool = True
) -> None:
    """Apply the rules to the weights of all layers of these kinds, and let their biases be 0."""
    for layer in model.modules():
        rule = convolution if isinstance(layer, nn.Conv2d) else linear
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and rule is not None:
            rule(layer.weight)
            if zero_bias and layer.bias is not None:
                nn.init.zeros_(layer.bias)


def he_fan_out(weight: Tensor) -> None:
    """N(0, 2 / fan_out). Source: He et al. 2015."""
    nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")


def chain(x: Tensor, *layers: nn.Module) -> Tensor:
    """The layers one after the other, joined where `nn.Sequential` would join them."""
    for step in fusion.steps(layers):
        x = step(x)
    return x


class Classifier(nn.Module):
    """features → avgpool → classifier, of which a subclass makes the parts."""

    features: nn.Module
    avgpool: nn.Module
    classifier: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def divisible(channels: float, divisor: int = 8) -> int:
    """The closest multiple of the divisor that is not less than nine tenths of the channels."""
    closest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return closest + divisor if closest < 0.9 * channels else closest
