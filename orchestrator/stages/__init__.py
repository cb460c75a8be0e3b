"""A stage each: reads the run folder, calls one room, writes the run folder, tells the tracker."""
