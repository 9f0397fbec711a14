"""U-Net: a class for every pixel, from a pyramid down and up again."""

from __future__ import annotations

from ... import nn
from ...engine import Tensor
from ...nn import functional as F
from ...ops.join import cat

__all__ = ["UNet"]


class DoubleConv(nn.Module):
    """3×3 convolution → batch norm → ReLU, twice."""

    def __init__(self, C_in: int, C_out: int, C_mid: int | None = None) -> None:
        super().__init__()
        C_mid = C_mid or C_out
        self.double_conv = nn.Sequential(
            nn.Conv2d(C_in, C_mid, 3, padding=1, bias=False),
            nn.BatchNorm2d(C_mid),
            nn.ReLU(inplace=True),
            nn.Conv2d(C_mid, C_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(C_out),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)


class Down(nn.Module):
    """Half the height and width, then a DoubleConv."""

    def __init__(self, C_in: int, C_out: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(C_in, C_out))

    def forward(self, x: Tensor) -> Tensor:
        return self.maxpool_conv(x)


class Up(nn.Module):
    """Twice the height and width, beside what was there before it was halved, then a DoubleConv."""

    def __init__(self, C_in: int, C_out: int, bilinear: bool) -> None:
        super().__init__()
        if bilinear:
            self.up: nn.Module = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.conv = DoubleConv(C_in, C_out, C_in // 2)
        else:
            self.up = nn.ConvTranspose2d(C_in, C_in // 2, 2, stride=2)
            self.conv = DoubleConv(C_in, C_out)

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        x = self.up(x)
        high, wide = kept.shape[2] - x.shape[2], kept.shape[3] - x.shape[3]
        if high or wide:  # rows that the halving dropped
            x = F.pad(x, [wide // 2, wide - wide // 2, high // 2, high - high // 2])
        return self.conv(cat([kept, x], 1))


class OutConv(nn.Module):
    def __init__(self, C_in: int, C_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(C_in, C_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class UNet(nn.Module):
    """(N, n_channels, H, W) from 16×16 on → (N, n_classes, H, W).

    width: channels of the first level, twice as many at each of the four below. bilinear: upsample
    by interpolation instead of transposed convolutions. The names of parameters are those of
    weights that are in use (the repository milesial/Pytorch-UNet). Source: Ronneberger et al. 2015.
    """

    def __init__(
        self, n_channels: int, n_classes: int, bilinear: bool = False, width: int = 64
    ) -> None:
        super().__init__()
        self.n_channels, self.n_classes, self.bilinear = n_channels, n_classes, bilinear
        last = 2 if bilinear else 1
        self.inc = DoubleConv(n_channels, width)
        self.down1 = Down(width, 2 * width)
        self.down2 = Down(2 * width, 4 * width)
        self.down3 = Down(4 * width, 8 * width)
        self.down4 = Down(8 * width, 16 * width // last)
        self.up1 = Up(16 * width, 8 * width // last, bilinear)
        self.up2 = Up(8 * width, 4 * width // last, bilinear)
        self.up3 = Up(4 * width, 2 * width // last, bilinear)
        self.up4 = Up(2 * width, width, bilinear)
        self.outc = OutConv(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.down3(x3)
        x = self.up1(self.down4(x4), x4)
        return self.outc(self.up4(self.up3(self.up2(x, x3), x2), x1))
