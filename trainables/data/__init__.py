"""Images from anywhere to three decoded splits: sources, decoding, split, the node's cache, rows, batches and loaders."""

from trainables.data.dataset import DataConfig, ImageSet, Splits
from trainables.data.load import load_splits

__all__ = ["DataConfig", "ImageSet", "Splits", "load_splits"]
