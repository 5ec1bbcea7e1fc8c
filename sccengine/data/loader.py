"""Loader: the batches of a data set in an order that depends only on (seed, epoch), from any position in it.

Everything random about batch b of epoch e is addressed by (seed, e, b) in counter.py, nothing is carried
along. So the position, two integers, is all a checkpoint needs for the same bits to follow. Batches are made on the
host by the transforms, or on a device by one kernel (augmentation.py): the bits are the same.
"""

from __future__ import annotations

import numpy as np

from sccengine import backend, numeric
from sccengine.data.augmentation import Augmentation
from sccengine.data.counter import AUGMENTATION, ORDER, Draws, check_seed
from sccengine.data.dataset import ImageDataset
from sccengine.data.transforms import Compose, batch_last


class Loader:
    """Iterates over (images, labels): float32 (N, C, H, W), batch last in memory, and int64 (N,).

    dataset     an ImageDataset
    batch_size  images a batch; the last batch of an epoch has what is left, unless drop_last
    shuffle     a new order every epoch; else the data set's own
    seed        0 ... 2**64 - 1; for the order and the transforms
    transforms  None, a transform or a list of them (data.transforms)
    drop_last   leave out an incomplete last batch
    device      None: NumPy arrays, made by the transforms. Or a device on which the whole data set is put and each
                batch is made in one launch: images and labels are that device's arrays, NumPy's on "cpu", with the
                same bits. Then transforms are those of this package, and Normalize comes last.

    `for images, labels in loader` runs from the current position to the end of the epoch, and leaves the
    loader at the start of the next. The position moves *before* a batch is handed out: a state taken while a
    batch is being worked on says that this batch is done. After a `break`, the next loop goes on where this
    one stopped; `rewind()` goes back. Without transforms, pixels become 0.0 ... 1.0.
    """

    def __init__(self, dataset, batch_size, *, shuffle=False, seed=0, transforms=None, drop_last=False, device=None):
        if not isinstance(dataset, ImageDataset):
            raise TypeError(f"Loader: dataset must be an ImageDataset, got {type(dataset).__name__}")
        batch_size = numeric.whole("Loader", "batch_size", batch_size)
        if drop_last and batch_size > len(dataset):
            raise ValueError(
                f"Loader: with drop_last, batch_size {batch_size} leaves no batch of {len(dataset)} images"
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = bool(shuffle)
        self.seed = check_seed(seed, "Loader")
        self.transforms = Compose(*(transforms if isinstance(transforms, list | tuple) else [transforms]))
        self.drop_last = bool(drop_last)
        self.epoch = 0
        self.batch = 0
        self._order_epoch = None
        self._order = None
        self.device = None if device is None else backend.resolve_device(device)
        self._augmentation = None if device is None else Augmentation(dataset, self.transforms, self.device)

    def __len__(self):
        """Batches in a whole epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + bool(rest and not self.drop_last)

    def __iter__(self):
        while self.batch < len(self):
            epoch, batch = self.epoch, self.batch
            self.batch += 1
            yield self._make(epoch, batch)
        self.rewind(self.epoch + 1)

    def rewind(self, epoch=None):
        """Go to the start of `epoch` (default: the current one)."""
        self.epoch = self.epoch if epoch is None else numeric.whole("Loader", "epoch", epoch, least=0)
        self.batch = 0

    def state_dict(self):
        """The position and what it is a position in: plain ints, bools and text, ready for JSON."""
        return {"epoch": self.epoch, "batch": self.batch, **self._identity()}

    def load_state_dict(self, state):
        """Go to the position in `state`; ValueError if it is of a loader that would give other batches."""
        identity = self._identity()
        missing = [key for key in ("epoch", "batch", *identity) if key not in state]
        if missing:
            raise ValueError(f"Loader: the state has no {', '.join(missing)}")
        different = [
            f"{key} is {value!r} here and {state[key]!r} in the state"
            for key, value in identity.items()
            if state[key] != value
        ]
        if different:
            raise ValueError(f"Loader: the state does not fit: {'; '.join(different)}")
        epoch, batch = state["epoch"], state["batch"]
        if not (isinstance(epoch, int) and isinstance(batch, int) and epoch >= 0 and 0 <= batch <= len(self)):
            raise ValueError(
                f"Loader: the state's position must be an epoch from 0 up and a batch in 0 ... {len(self)}, "
                f"got epoch {epoch!r}, batch {batch!r}"
            )
        self.epoch, self.batch = epoch, batch

    def __repr__(self):
        return (
            f"Loader({self.dataset!r}, batch_size={self.batch_size}, shuffle={self.shuffle}, seed={self.seed}, "
            f"transforms={self.transforms!r}, drop_last={self.drop_last}, device={self.device!r})"
        )

    def _identity(self):
        """Every setting that decides which batches come."""
        return {
            "images": len(self.dataset),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "transforms": repr(self.transforms),
            "drop_last": self.drop_last,
        }

    def indices(self, epoch, batch):
        """int64 (N,): which images of the data set make up batch number `batch` of `epoch`, in order."""
        first = batch * self.batch_size
        return self._epoch_order(epoch)[first : first + self.batch_size]

    def _epoch_order(self, epoch):
        count = len(self.dataset)
        return Draws(self.seed, ORDER, epoch).permutation(count) if self.shuffle else np.arange(count)

    def _make(self, epoch, batch):
        """Batch number `batch` of `epoch`."""
        if self._order_epoch != epoch:
            order = self._epoch_order(epoch)
            self._order = order if self.device is None else backend.to_device(order, self.device)
            self._order_epoch = epoch
        first = batch * self.batch_size
        if self._augmentation is not None:
            count = min(self.batch_size, len(self.dataset) - first)
            return self._augmentation.batch(self._order, first, count, self.seed, epoch, batch)
        chosen = self._order[first : first + self.batch_size]
        images = self.transforms(self.dataset.images[chosen], Draws(self.seed, AUGMENTATION, epoch, batch))
        return batch_last(images), self.dataset.labels[chosen]
