"""Where scores go: a small Tracker protocol, a do-nothing twin, and MLflow behind its one door."""
