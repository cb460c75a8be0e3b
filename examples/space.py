"""A search space of one's own in Python: `orchestrate run -o name=own_space -o search.space=examples/space.py`."""

from search_spaces.schedules import schedule_dimensions
from search_spaces.space import Choice, Float, Int, Space, When

SPACE = Space(
    "small_nets",
    (
        Choice("model", ("cnn_b", "cnn_c")),
        Int("width", 16, 64, log=True),
        Float("dropout", 0.2, 0.6, when=When("model", ("cnn_c",))),
        Float("lr", 5e-4, 1e-2, log=True),
        *schedule_dimensions("cosine", "onecycle", "exponential"),
    ),
    {"augmentation": "translate+erase", "optimizer": "adamw"},
)
