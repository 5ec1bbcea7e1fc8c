"""Schemes: what stands in the place of a k x k convolution that mixes channels.

    standard         one dense k x k convolution
    dw+pw            depthwise k x k, then pointwise (1x1, every filter reads every channel)
    dw+gpw           depthwise k x k, then grouped pointwise: filter f reads the K = C / groups channels of its group
    dw+gpw+shuffle   the same, then a channel shuffle, so that the next layer's groups mix
    dw+scc           depthwise k x k, then sliding-channel: filter f reads K channels from (f * S) mod C on,
                     S = K - floor(overlap * K)

Multiply-accumulates an output pixel: C * O * k * k, and with a depthwise stage C * k * k + O * K (K = C for pointwise).

As in the published models, the stride sits in the depthwise convolution, and depthwise, pointwise, grouped and
sliding-channel layers carry a bias.

Narrow layers: where a layer has fewer input channels than `groups`, it is built with groups=1, that is, as a pointwise
layer: there is next to nothing to save there. Such a layer carries a `note` that says so, which summaries show. A wider
layer whose channels `groups` does not divide is an error. First layers, which read the image, are not replaced at all.
"""

from __future__ import annotations

from sccengine import nn

#: The settings that each scheme has.
USES = {
    "standard": (),
    "dw+pw": (),
    "dw+gpw": ("groups",),
    "dw+gpw+shuffle": ("groups",),
    "dw+scc": ("groups", "overlap"),
}
#: What the field calls them.
SYMBOLS = {"groups": "cg", "overlap": "co"}
SCHEMES = tuple(USES)
DEFAULT_SCHEME = "dw+scc"


def check_scheme(scheme):
    """ValueError that lists the valid names unless `scheme` is one of SCHEMES."""
    if scheme not in SCHEMES:
        raise ValueError(f"unknown scheme {scheme!r}; choose from {', '.join(map(repr, SCHEMES))}")


def replacement(
    scheme, in_channels, out_channels, kernel_size=3, stride=1, *, groups=2, overlap=0.5, norm=None, bias=True
):
    """The layers that `scheme` puts in the place of a k x k convolution with padding k // 2: a dict of name -> layer.

    norm    None, or a function channels -> layer: put between the depthwise and the channel-mixing stage
    bias    whether the dense convolution of scheme "standard" carries one; the other schemes always do

    Meant for ``nn.Sequential``, alone or with more layers after it. Input (N, C, H, W), output
    (N, O, ceil(H / stride), ceil(W / stride)) for odd k.
    """
    check_scheme(scheme)
    if scheme == "standard":
        padding = kernel_size // 2
        return {"conv": nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=bias)}
    layers = {"depthwise": depthwise(in_channels, kernel_size, stride)}
    if norm is not None:
        layers["depthwise_norm"] = norm(in_channels)
    return layers | channel_mixing(scheme, in_channels, out_channels, groups=groups, overlap=overlap)


def depthwise(channels, kernel_size=3, stride=1):
    """A k x k convolution of every channel by itself, with padding k // 2 and a bias."""
    return nn.Conv2d(channels, channels, kernel_size, stride, kernel_size // 2, groups=channels)


def channel_mixing(scheme, in_channels, out_channels, *, groups=2, overlap=0.5):
    """The 1x1 stage of a depthwise scheme, which alone mixes channels: a dict of name -> layer."""
    if scheme == "dw+pw":
        return {"mix": nn.Conv2d(in_channels, out_channels, 1)}
    narrow = in_channels < groups
    asked, groups = groups, 1 if narrow else groups
    if scheme == "dw+scc":
        mix = nn.SCC(in_channels, out_channels, groups=groups, overlap=overlap)
    else:
        mix = nn.Conv2d(in_channels, out_channels, 1, groups=groups)
    if narrow:
        mix.note = f"{in_channels} input channels, fewer than groups={asked}: built with groups=1 (pointwise)"
    return {"mix": mix, "shuffle": nn.ChannelShuffle(groups)} if scheme == "dw+gpw+shuffle" else {"mix": mix}
