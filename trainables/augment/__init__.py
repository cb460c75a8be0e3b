"""Augmentation of training images in batches, where the tensor is, by draws that depend on (seed, epoch, sample) alone."""

from trainables.augment.batch import augment_batch, to_float
from trainables.augment.sets import AUGMENTATIONS, AugmentationSet, ops_of, parse_set

__all__ = ["AUGMENTATIONS", "AugmentationSet", "augment_batch", "ops_of", "parse_set", "to_float"]
