"""What to train, where, and what becomes of it: search, tracking, ensembling, delivery and the command line."""

__version__ = "0.1.0"
