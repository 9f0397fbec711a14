"""A variational autoencoder of digits."""

import argparse

import numpy as np
import torch
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class VAE(nn.Module):
    def __init__(self, latent):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 8, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(8, 16, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Flatten(),
        )
        self.mu = nn.Linear(16 * 7 * 7, latent)
        self.logvar = nn.Linear(16 * 7 * 7, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, 16 * 7 * 7),
            nn.ReLU(True),
            nn.Unflatten(1, (16, 7, 7)),
            nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1),
            nn.ReLU(True),
            nn.ConvTranspose2d(8, 1, 4, stride=2, padding=1),
        )

    def reparameterize(self, mu, logvar, noise):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std) if noise is None else noise
        return mu + eps * std

    def forward(self, x, noise=None):
        h = self.encoder(x)
        mu, logvar = self.mu(h), self.logvar(h)
        z = self.reparameterize(mu, logvar, noise)
        return torch.sigmoid(self.decoder(z)), mu, logvar


def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy(recon_x, x, reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (BCE + KLD) / x.size(0)


parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=200)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--latent", type=int, default=8)
parser.add_argument("--numpy-noise", action="store_true", help="the same noise in every library")
parser.add_argument("--double", action="store_true", help="in double precision")
parser.add_argument("--save-initial")
parser.add_argument("--load-initial")
args = parser.parse_args()
if args.double:
    torch.set_default_dtype(torch.float64)

torch.manual_seed(0)
draws = np.random.RandomState(0)
# Blobs in place of digits: bright spots on black.
y, x = np.mgrid[:28, :28]
centres = draws.randint(6, 22, (512, 2, 1, 1))
images = np.exp(-((y - centres[:, 0]) ** 2 + (x - centres[:, 1]) ** 2) / 20.0).astype(np.float32)
images = torch.from_numpy(images).to(torch.get_default_dtype())
data = DataLoader(TensorDataset(images.unsqueeze(1)), args.batch_size)

device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
model = VAE(args.latent).to(device)
if args.save_initial:
    torch.save(model.state_dict(), args.save_initial)
if args.load_initial:
    model.load_state_dict(torch.load(args.load_initial, weights_only=True))
optimizer = optim.Adam(model.parameters(), lr=1e-3)

step = 0
while step < args.steps:
    for (batch,) in data:
        noise = None
        if args.numpy_noise:
            noise = torch.tensor(draws.randn(len(batch), args.latent)).to(batch.dtype)
        optimizer.zero_grad(set_to_none=True)
        recon, mu, logvar = model(batch.to(device), noise)
        loss = loss_function(recon, batch, mu, logvar)
        loss.backward()
        optimizer.step()
        print(f"step {step} loss {loss.item():.12f}")
        step += 1
        if step == args.steps:
            break
