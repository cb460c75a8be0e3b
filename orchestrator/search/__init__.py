"""How trials are proposed, run, judged, kept and gone on with: on Ray Tune, or in this very process."""
