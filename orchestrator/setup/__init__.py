"""Before the first run: look at the data, propose an experiment, check it, say what it will cost."""
