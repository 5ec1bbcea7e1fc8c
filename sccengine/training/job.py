"""From plain values to the objects of a training run: what ``sccengine train`` and ``compare`` do with their options,
the same on starting and on resuming.

config["options"]   the options of `sccengine train` that decide the result
config["model"]     the arguments of models.build
config["data"]      what the data set turned out to be: image_shape, class_names, mean, std ...
"""

from __future__ import annotations

from sccengine import backend, certify, data, models, optim
from sccengine.data import transforms
from sccengine.training.trainer import Trainer

SCHEDULES = ("cosine", "step", "constant")
OPTIMIZERS = ("sgd", "adamw")
DECAYS = ("weights", "all")
STEP_EPOCHS = 10
STEP_FACTOR = 0.5

# What each optimizer is given where --lr and --weight-decay are not; the few digits want more decay than large sets.
RATES = {"sgd": 0.1, "adamw": 0.002}
DECAY_RATES = {"sgd": 5e-4, "adamw": 0.05}
DIGITS_DECAY = 5e-3

# The recipe of a run whose options say nothing else; None: what `choose_rates` gives.
RECIPE = {
    "dataset": "digits",
    "augment": True,
    "batch_size": 32,
    "optimizer": "sgd",
    "lr": None,
    "nesterov": True,
    "schedule": "cosine",
    "weight_decay": None,
    "decay": "weights",
    "label_smoothing": 0.1,
}

TEST_BATCH = 256

# Seconds between checkpoints where many runs are made unattended: so much training a killed process loses at most,
# however long its epochs are.
_SAVED_EVERY = 30

# Bytes of images up to which a data set lives on the GPU beside its model, where kernels can index it.
MOST_ON_DEVICE = 1 << 31

# What random changes leave the class of a training image as it is: (pixels of shift, mirror, side of a cut-out square).
# Shifts are an eighth of CIFAR's side, as published; the embedded digits are centred, and shifting them only hurts.
_AUGMENTATIONS = {
    "digits": (0, False, 3),
    "mnist": (2, False, 0),
    "fashion-mnist": (2, True, 0),
    "cifar10": (4, True, 0),
    "cifar100": (4, True, 0),
    "folder": (4, True, 0),
    "synthetic": (4, True, 0),
}


def choose_rates(options):
    """Give `options` the learning rate and weight decay that suit its optimizer and data set where they are None."""
    if options["lr"] is None:
        options["lr"] = RATES[options["optimizer"]]
    if options["weight_decay"] is None:
        digits = options["dataset"] == "digits" and options["optimizer"] == "sgd"
        options["weight_decay"] = DIGITS_DECAY if digits else DECAY_RATES[options["optimizer"]]


def build_trainer(options, epochs, data_dir=None, device=None, **settings):
    """The Trainer of a run of `epochs` epochs; its config is what ``sccengine train`` writes.

    options    the options of ``sccengine train`` that decide the result, by name, all of them
    data_dir   where the data set's files are, as data.load understands it
    settings   more arguments of Trainer: out, progress, checkpoint_steps ...

    Raises ValueError for settings that do not fit each other or the data, and what data.load and devices raise.
    """
    train_set, test_set = data.load(options["dataset"], data_dir)
    config = describe_run(options, train_set)
    backend.set_seed(options["seed"])
    model = build_model(config)
    device = backend.resolve_device(device)
    model.to(device)
    config["environment"] = {
        "device": device,
        "data_dir": data_dir and str(data_dir),
        "certificate": certify.known(certify.layers_of(model), device, config["model"]),
    }
    train_loader = build_train_loader(config, train_set, device)
    test_loader = build_test_loader(config, test_set, device)
    return Trainer(
        model,
        build_optimizer(config, model),
        train_loader,
        test_loader,
        schedule=build_schedule(config, epochs, len(train_loader)),
        label_smoothing=options["label_smoothing"],
        patience=options["patience"],
        config=config,
        **settings,
    )


def train_quietly(options, epochs, out, data_dir=None, device=None, watch=None):
    """The History of one run of many: what ``sccengine train`` would do in the folder `out`, begun or gone on with.

    watch   called with the History after every epoch but the last; ends the training where it returns True

    Raises what `build_trainer` and ``Trainer.fit`` raise; TrainingInterrupted leaves a checkpoint.
    """
    trainer = build_trainer(
        options, epochs, data_dir, device, out=out, keep=2, progress="quiet", checkpoint_seconds=_SAVED_EVERY
    )
    return trainer.fit(epochs, resume=True, watch=watch)


def describe_run(options, train_set):
    """config.json of a run with these options, without the environment."""
    described = describe_data(options["dataset"], train_set)
    return {"options": options, "data": described, "model": describe_model(options, described)}


def describe_model(options, described):
    """config["model"] of a run with these options on the data set that `described` (`describe_data`) is about."""
    return {
        "name": options["model"],
        **{name: options[name] for name in ("scheme", "groups", "overlap", "width", "stem")},
        "in_channels": described["image_shape"][0],
        "num_classes": len(described["class_names"]),
    }


def describe_data(dataset, train_set):
    """config["data"]: what models and predictions need to know of the data set called `dataset`."""
    mean, std = train_set.channel_statistics()
    return {
        "dataset": dataset,
        "training_images": len(train_set),
        "image_shape": list(train_set.image_shape),
        "class_names": list(train_set.class_names),
        "mean": list(mean),
        # A constant channel has no scale of its own; it becomes zero whatever it is divided by.
        "std": [value or 1.0 for value in std],
    }


def build_model(config):
    """The model of config["model"], freshly initialised on the CPU; ValueError if the images are too small for it."""
    settings = dict(config["model"])
    model = models.build(settings.pop("name"), **settings)
    models.check_image_size(model, config["data"]["image_shape"][1:])
    return model


def normalisation(config):
    """The transform that prepares an image for the network."""
    return transforms.Normalize(config["data"]["mean"], config["data"]["std"])


def build_train_loader(config, train_set, device):
    """Shuffled batches of the training images for a model on `device`, varied at random if config["options"] says."""
    options = config["options"]
    # "folder:PATH" is of the kind "folder".
    kind = options["dataset"].partition(":")[0]
    shift, mirror, cut = _AUGMENTATIONS.get(kind, (0, False, 0)) if options["augment"] else (0, False, 0)
    steps = [
        transforms.RandomCrop(shift) if shift else None,
        transforms.RandomHorizontalFlip() if mirror else None,
        transforms.Cutout(cut) if cut else None,
        normalisation(config),
    ]
    size = min(options["batch_size"], len(train_set))
    place = _place(train_set, device)
    return data.Loader(
        train_set, size, shuffle=True, seed=options["seed"], transforms=steps, drop_last=True, device=place
    )


def build_test_loader(config, test_set, device):
    """The test images in order, for a model on `device`."""
    return data.Loader(test_set, TEST_BATCH, transforms=normalisation(config), device=_place(test_set, device))


def _place(dataset, device):
    """Where a loader keeps a data set: beside a model on a GPU, or (None) on the host; batches have the same bits."""
    return device if device != "cpu" and dataset.images.nbytes < MOST_ON_DEVICE else None


def build_optimizer(config, model):
    """The optimizer of config["options"]; its "decay" says whether biases and batch norm decay too."""
    options = config["options"]
    groups = model.parameters()
    if options["decay"] == "weights":
        groups = optim.decay_groups(model, options["weight_decay"])
    settings = {"lr": options["lr"], "weight_decay": options["weight_decay"]}
    if options["optimizer"] == "adamw":
        return optim.AdamW(groups, **settings)
    return optim.SGD(groups, momentum=0.9, nesterov=options["nesterov"], **settings)


def build_schedule(config, epochs, steps_per_epoch):
    """The schedule of config["options"]: multipliers of the learning rate by step."""
    schedules = optim.schedules
    name = config["options"]["schedule"]
    if name == "cosine":
        return schedules.cosine(epochs * steps_per_epoch)
    if name == "step":
        return schedules.step(every=STEP_EPOCHS * steps_per_epoch, factor=STEP_FACTOR)
    return schedules.constant()
