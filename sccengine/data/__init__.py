"""Data: labelled images in memory, readers for their usual formats, transforms and a loader that can be resumed.

train, test = data.load("digits")
transforms = [data.RandomCrop(1), data.Normalize.of(train)]
for images, labels in data.Loader(train, 128, shuffle=True, seed=0, transforms=transforms):
    ...  # float32 (N, C, H, W), batch last in memory; int64 (N,)
"""

from . import transforms
from .catalog import NAMES, data_folder, load
from .cifar import load_cifar10, load_cifar100
from .dataset import ImageDataset
from .digits import load_digits
from .errors import DataError
from .idx import load_mnist
from .image_folder import load_image_folder, read_image
from .loader import Loader
from .npz import load_npz
from .synthetic import load_synthetic
from .transforms import Compose, Cutout, Normalize, RandomCrop, RandomHorizontalFlip, batch_last

__all__ = [
    "NAMES",
    "Compose",
    "Cutout",
    "DataError",
    "ImageDataset",
    "Loader",
    "Normalize",
    "RandomCrop",
    "RandomHorizontalFlip",
    "batch_last",
    "data_folder",
    "load",
    "load_cifar10",
    "load_cifar100",
    "load_digits",
    "load_image_folder",
    "load_mnist",
    "load_npz",
    "load_synthetic",
    "read_image",
    "transforms",
]
