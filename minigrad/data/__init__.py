"""Data sets, transforms and the loader.

train = load_mnist("data", train=True)
loader = DataLoader(train, batch_size=64, shuffle=True, transform=Normalize(0.1307, 0.3081))
for images, labels in loader: ...
"""

from .cifar10 import load_cifar10
from .collate import default_collate, default_convert
from .datasets import ArrayDataset, BucketDataset, ImageDataset
from .generic import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from .image_folder import load_image_folder
from .loader import DataLoader
from .mnist import load_digits, load_mnist, read_idx
from .samplers import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
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
from .workers import get_worker_info

__all__ = [
    "ArrayDataset",
    "BatchSampler",
    "BucketDataset",
    "ChainDataset",
    "Compose",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "DistributedSampler",
    "ImageDataset",
    "IterableDataset",
    "Normalize",
    "RandomAffine",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomRotation",
    "RandomSampler",
    "Resize",
    "Sampler",
    "SequentialSampler",
    "StackDataset",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "Transform",
    "WeightedRandomSampler",
    "default_collate",
    "default_convert",
    "get_worker_info",
    "load_cifar10",
    "load_digits",
    "load_image_folder",
    "load_mnist",
    "random_split",
    "read_idx",
]
