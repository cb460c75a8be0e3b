"""The ensembling room: pure functions on arrays of predictions; numpy, scipy and scikit-learn only, no files."""
