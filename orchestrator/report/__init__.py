"""What the run folder tells a reader: figures, importance of each knob, and the page that puts them together."""
