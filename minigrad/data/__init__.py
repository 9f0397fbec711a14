"""Data sets, transforms and the loader.

train = load_mnist("data", train=True)
loader = DataLoader(train, batch_size=64, shuffle=True, transform=Normalize(0.1307, 0.3081))
for images, labels in loader: ...
"""

from .cifar10 import load_cifar10
from .collate import default_collate
from .datasets import ArrayDataset, BucketDataset, ImageDataset, Subset, random_split
from .image_folder import load_image_folder
from .loader import DataLoader
from .mnist import load_digits, load_mnist, read_idx
from .transforms import (
    Compose,
    Normalize,
    RandomAffine,
    RandomCrop,
    RandomHorizontalFlip,
    RandomRotation,
    Resize,
    Transform,
)

__all__ = [
    "ArrayDataset",
    "BucketDataset",
    "Compose",
    "DataLoader",
    "ImageDataset",
    "Normalize",
    "RandomAffine",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomRotation",
    "Resize",
    "Subset",
    "Transform",
    "default_collate",
    "load_cifar10",
    "load_digits",
    "load_image_folder",
    "load_mnist",
    "random_split",
    "read_idx",
]
