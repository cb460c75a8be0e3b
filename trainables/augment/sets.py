"""The one table of augmentation sets: which operations each may apply, and which of them come as a policy."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import reduce

_COLOUR = frozenset({"brightness", "contrast", "saturation", "hue"})
_POLICY = frozenset(
    {"shear", "translate", "rotate", "brightness", "saturation", "contrast", "sharpness", "posterize", "solarize"}
    | {"autocontrast", "equalize"}
)


@dataclass(frozen=True)
class AugmentationSet:
    """Operations applied to every sample, and policies that pick a few operations a sample."""

    ops: frozenset[str] = frozenset()
    policies: tuple[str, ...] = ()
    policy_ops: frozenset[str] = frozenset()
    own: tuple[str, ...] = ()
    """"module:callable" of own per-image transforms."""

    def __add__(self, other: AugmentationSet) -> AugmentationSet:
        policies = tuple(dict.fromkeys((*self.policies, *other.policies)))
        own = tuple(dict.fromkeys((*self.own, *other.own)))
        return AugmentationSet(self.ops | other.ops, policies, self.policy_ops | other.policy_ops, own)


def _plain(*ops: str) -> AugmentationSet:
    return AugmentationSet(frozenset(ops))


AUGMENTATIONS: dict[str, AugmentationSet] = {
    "none": _plain(),
    "flip": _plain("hflip"),
    "crop_flip": _plain("crop", "hflip"),
    "translate": _plain("translate"),
    "rotate": _plain("rotate"),
    "scale": _plain("scale"),
    "colour": _plain(*_COLOUR),
    "geometric": _plain("rotate", "translate", "scale", "shear", "perspective", "elastic"),
    "blur_noise": _plain("blur", "noise"),
    "erase": _plain("erase"),
    "crop_flip_colour": _plain("crop", "hflip", *_COLOUR),
    "crop_flip_erase": _plain("crop", "hflip", "erase"),
    "randaugment": AugmentationSet(policies=("randaugment",), policy_ops=_POLICY),
    "trivialaugment": AugmentationSet(policies=("trivialaugment",), policy_ops=_POLICY),
    "autoaugment": AugmentationSet(policies=("autoaugment",), policy_ops=_POLICY | {"invert"}),
    "augmix": AugmentationSet(policies=("augmix",), policy_ops=_POLICY),
}
"""name -> set; names joined by "+" apply all of them, "module:callable" is an own transform of uint8 images."""


def parse_set(name: str) -> AugmentationSet:
    """Return the set of a name, of names joined by "+", or with own "module:callable" parts; raises ValueError."""
    return reduce(AugmentationSet.__add__, (_part(part.strip()) for part in name.split("+")))


def ops_of(name: str) -> frozenset[str]:
    """Return every operation that the set may apply, for a list of forbidden ones; raises ValueError for unknown names.

    An own transform tells its operations by an attribute `ops`, if it has one.
    """
    from trainables.augment.own import own_ops

    found = parse_set(name)
    return found.ops | found.policy_ops | frozenset(op for own in found.own for op in own_ops(own))


def _part(name: str) -> AugmentationSet:
    if name in AUGMENTATIONS:
        return AUGMENTATIONS[name]
    if ":" in name:
        return AugmentationSet(own=(name,))
    near = difflib.get_close_matches(name, AUGMENTATIONS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(AUGMENTATIONS)}"
    raise ValueError(f"train.augmentation: got {name!r}; {hint} (joined by '+', or module:callable)")
