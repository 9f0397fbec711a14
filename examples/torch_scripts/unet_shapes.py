"""Segmentation: a U-Net that finds circles and squares."""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class Shapes(Dataset):
    """Noisy images with one circle (class 1) and one square (class 2)."""

    def __init__(self, length, size=32):
        self.length, self.size = length, size

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        draws = np.random.RandomState(index)
        y, x = np.mgrid[: self.size, : self.size]
        mask = np.zeros((self.size, self.size), np.int64)
        cy, cx, r = draws.randint(6, 26), draws.randint(6, 26), draws.randint(3, 7)
        mask[(y - cy) ** 2 + (x - cx) ** 2 <= r * r] = 1
        top, left, side = draws.randint(0, 20), draws.randint(0, 20), draws.randint(4, 11)
        mask[top : top + side, left : left + side] = 2
        image = 0.5 * mask[None] + 0.3 * draws.randn(1, self.size, self.size)
        return torch.tensor(image, dtype=torch.get_default_dtype()), torch.from_numpy(mask)


class DoubleConv(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.double_conv(x)


class UNet(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.inc = DoubleConv(1, width)
        self.down1 = DoubleConv(width, 2 * width)
        self.down2 = DoubleConv(2 * width, 4 * width)
        self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, kernel_size=2, stride=2)
        self.conv1 = DoubleConv(4 * width, 2 * width)
        self.up2 = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.conv2 = DoubleConv(3 * width, width)
        self.outc = nn.Conv2d(width, 3, kernel_size=1)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        x = torch.cat([x2, self.up1(x3)], dim=1)
        x = self.conv1(x)
        x = torch.cat([x1, self.up2(x)], dim=1)
        return self.outc(self.conv2(x))


def dice_loss(logits, target, eps=1e-6):
    probabilities = logits.softmax(dim=1)
    onehot = F.one_hot(target, 3).permute(0, 3, 1, 2).float()
    intersection = (probabilities * onehot).sum(dim=(2, 3))
    union = probabilities.sum(dim=(2, 3)) + onehot.sum(dim=(2, 3))
    return 1 - ((2 * intersection + eps) / (union + eps)).mean()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--double", action="store_true", help="in double precision")
    parser.add_argument("--save-initial")
    parser.add_argument("--load-initial")
    args = parser.parse_args()
    if args.double:
        torch.set_default_dtype(torch.float64)
    model = UNet()
    if args.save_initial:
        torch.save({"epoch": 0, "state_dict": model.state_dict()}, args.save_initial)
    if args.load_initial:
        model.load_state_dict(torch.load(args.load_initial, map_location="cpu")["state_dict"])
    loader = DataLoader(
        Shapes(args.steps * args.batch_size), args.batch_size, num_workers=args.workers
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.steps)
    model.train()
    for step, (images, masks) in enumerate(loader):
        logits = model(images)
        loss = F.cross_entropy(logits, masks) + dice_loss(logits, masks)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        print(f"step {step} loss {loss.item():.12f}")
    model.eval()
    with torch.inference_mode():
        images, masks = next(iter(loader))
        accuracy = (model(images).argmax(1) == masks).float().mean().item()
    print(f"accuracy {accuracy:.6f}")


if __name__ == "__main__":
    main()
