"""K trials of one shape trained as one array: packed or by vmap, per-slot optimisers, the probe, graphs, the pool of slots."""
