"""Training steps that are captured in the simulator and on a GPU, beside the same steps launched one by one."""

import numpy as np

import sccengine as scc
import sccengine.functional as F
from sccengine import backend, nn, optim
from sccengine.autograd import Tensor

SHAPE, CLASSES = (2, 4, 4, 4), 3


class Residual(nn.Module):
    """Strides, a sum of two branches, dropout: gradients meet at the fork."""

    def __init__(self):
        super().__init__()
        self.first = nn.SCC(4, 4, groups=2, overlap=0.5)
        self.drop = nn.Dropout(0.3)
        self.second = nn.SCC(4, 4, groups=2, overlap=0.5, stride=2)
        self.short = nn.Conv2d(4, 4, 1, stride=2)
        self.pool = nn.GlobalAvgPool2d()
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        x = self.drop(F.relu(self.first(x)))
        return self.head(self.pool(F.add(self.second(x), self.short(x))))


class Run:
    """A model on a device with everything a step needs; `step` takes images and labels."""

    def __init__(self, device, model=Residual, optimizer="sgd", max_norm=None, label_smoothing=0.0, lr=0.1):
        backend.set_seed(5)
        self.device = device
        self.model = model().to(device)
        groups = optim.decay_groups(self.model, 0.01)
        if optimizer == "sgd":
            self.optimizer = optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)
        else:
            self.optimizer = optim.AdamW(groups, lr=lr)
        self.scheduler = optim.Scheduler(self.optimizer, optim.schedules.cosine(10))
        self.max_norm = max_norm
        self.label_smoothing = label_smoothing
        self.random = backend.random_state()

    def step(self, images, labels):
        self.optimizer.zero_grad()
        logits = self.model(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        loss.backward()
        norm = None if self.max_norm is None else optim.clip_grad_norm(self.model.parameters(), self.max_norm)
        self.optimizer.step()
        return {"loss": loss, "logits": logits, "norm": norm}

    def train(self, steps, captured, before_step=None):
        """What each step returned, as host arrays; `captured`: through capture_step."""
        batches = [batch(number, self.model_shape) for number in range(steps)]
        step = self.step
        if captured:
            step = scc.capture_step(self.step, *batches[0], device=self.device)
        backend.set_random_state(self.random)
        results = []
        for number, inputs in enumerate(batches):
            if before_step is not None:
                before_step(self, number)
            if not captured:
                inputs = [Tensor(array, device=self.device) for array in inputs]
            results.append({name: t if t is None else t.numpy().copy() for name, t in step(*inputs).items()})
            self.scheduler.step()
        self.captured_step = step
        return results

    model_shape = SHAPE

    def state(self):
        """Everything that training changes, as {name: bytes}."""
        state = {name: array.tobytes() for name, array in self.model.state_dict().items()}
        for index, entries in self.optimizer.state_dict()["state"].items():
            state |= {f"{index}.{name}": np.asarray(value).tobytes() for name, value in entries.items()}
        state |= {f"{name}.grad": parameter.grad.numpy().tobytes() for name, parameter in self.model.named_parameters()}
        return state


def batch(number, shape=SHAPE):
    """Images and labels of a step."""
    random = np.random.default_rng(number)
    return random.standard_normal(shape).astype(np.float32), random.integers(0, CLASSES, shape[0])


def assert_equal_to_the_bit(device, steps=4, before_step=None, shape=SHAPE, **settings):
    """`steps` captured steps against the same steps launched one by one."""
    eager, captured = Run(device, **settings), Run(device, **settings)
    eager.model_shape = captured.model_shape = shape
    want = eager.train(steps, False, before_step)
    got = captured.train(steps, True, before_step)
    assert captured.captured_step.captured
    for number, (one, other) in enumerate(zip(want, got)):
        for name in one:
            assert (one[name] is None) == (other[name] is None)
            if one[name] is not None:
                assert one[name].tobytes() == other[name].tobytes(), f"{name} of step {number}"
    want, got = eager.state(), captured.state()
    assert list(want) == list(got)
    assert not [name for name in want if want[name] != got[name]]
    return captured
