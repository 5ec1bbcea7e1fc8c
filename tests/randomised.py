"""Networks in which nothing has its starting value, so that no test passes because of a 0 or a 1."""

import numpy as np


def randomised(model, seed=0):
    """`model` with random weights and statistics everywhere, so that nothing is 0 or 1 by default."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, value in model.state_dict().items():
        noise = rng.standard_normal(value.shape)
        if name.endswith("running_var"):
            noise = 0.5 + np.abs(noise)
        elif value.ndim > 1:
            noise /= np.sqrt(np.prod(value.shape[1:]))
        state[name] = noise.astype(value.dtype)
    model.load_state_dict(state)
    return model
