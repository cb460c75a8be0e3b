"""Tools beside the way: what is wrong, which rate, how fast this machine is; each reads an experiment and writes no record."""
