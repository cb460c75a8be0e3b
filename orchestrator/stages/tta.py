"""The control that costs no training: the best single model seen through several views of each image."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.stages.fitting import Fitting
from orchestrator.stages.predictions import predict_member
from orchestrator.store.workspace import read_json

if TYPE_CHECKING:
    from orchestrator.ensemble.ensemble import Ensemble

NAME = "best single + TTA"
VIEWS = ("flip", "crops", "scales")
FLIPPING = ("flip", "full")


class Seen(NamedTuple):
    """The views that were chosen, and the calibrated probabilities through them by split."""

    views: str
    predictions: dict[str, NDArray[np.float32]]


def single_with_tta(fitting: Fitting, single: Ensemble) -> Seen | None:
    """Return the best single model under test-time augmentation; "auto" takes the views with the best validation score."""
    from orchestrator.ensemble.metrics import error_of

    wanted = fitting.context.experiment.ensemble.tta
    if wanted == "none":
        return None
    record = fitting.context.workspace.load_record(single.member_ids[0])
    options = allowed_views(fitting) if wanted == "auto" else [wanted]
    val = {views: predict_member(fitting.context, record, "val", tta=views) for views in options}
    fitted = {views: fitting.given_arrays([probs], single.member_ids, NAME) for views, probs in val.items()}
    seen = {views: ensemble.combine([val[views]]) for views, ensemble in fitted.items()}
    labels = fitting.labels("val")
    best = min(options, key=lambda views: error_of(fitting.spec.metric, seen[views], labels))
    test = fitted[best].combine([predict_member(fitting.context, record, "test", tta=best)])
    return Seen(best, {"val": seen[best], "test": test})


def allowed_views(fitting: Fitting) -> list[str]:
    """Return the views that "auto" may choose: none that flips where flips are forbidden by the user or the diagnosis."""
    workspace = fitting.context.workspace
    diagnosis = read_json(workspace.diagnosis) if workspace.diagnosis.exists() else {}
    forbidden = {*fitting.context.experiment.search.forbid, *diagnosis.get("forbidden", ())}
    return [views for views in VIEWS if views not in FLIPPING or "hflip" not in forbidden]
