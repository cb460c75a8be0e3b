"""K trials of one shape trained as one array: packing of models, per-slot optimisers, the probe, and the pool of slots."""
