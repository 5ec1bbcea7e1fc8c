"""Data: labelled images in memory, readers for their usual formats, transforms and a loader that can be resumed.

train, test = data.load("digits")
transforms = [data.RandomCrop(1), data.Normalize.of(train)]
for images, labels in data.Loader(train, 128, shuffle=True, seed=0, transforms=transforms):
    ...  # float32 (N, C, H, W), batch last in memory; int64 (N,)
"""

from sccengine.data import transforms
from sccengine.data.catalog import NAMES, data_folder, load
from sccengine.data.cifar import load_cifar10, load_cifar100
from sccengine.data.dataset import ImageDataset
from sccengine.data.digits import load_digits
from sccengine.data.errors import DataError
from sccengine.data.idx import load_mnist
from sccengine.data.image_folder import load_image_folder, read_image
from sccengine.data.loader import Loader
from sccengine.data.npz import load_npz
from sccengine.data.synthetic import load_synthetic
from sccengine.data.transforms import Compose, Cutout, Normalize, RandomCrop, RandomHorizontalFlip, batch_last

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
