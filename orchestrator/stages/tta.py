"""The control that costs no training: the best single model seen through several views of each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.stages.countdown import Countdown
from orchestrator.stages.fitting import Fitting
from orchestrator.store.records import MemberRecord
from orchestrator.store.workspace import read_json

if TYPE_CHECKING:
    from orchestrator.ensemble.ensemble import Ensemble
    from trainables.tta import View

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
    val = seen_through(fitting, record, options, "val")
    fitted = {name: fitting.given_arrays([probs], single.member_ids, NAME) for name, probs in val.items()}
    seen = {name: ensemble.combine([val[name]]) for name, ensemble in fitted.items()}
    labels = fitting.labels("val")
    best = min(options, key=lambda name: error_of(fitting.spec.metric, seen[name], labels))
    test = fitted[best].combine([seen_through(fitting, record, [best], "test")[best]])
    return Seen(best, {"val": seen[best], "test": test})


def seen_through(fitting: Fitting, record: MemberRecord, options: Sequence[str], split: str) -> dict[str, NDArray[np.float32]]:
    """Return a member's mean probabilities over the views of each option; a view that options share is predicted once.

    The plain view of a member trained without test-time augmentation is the bank's.
    """
    from orchestrator.search.predict_members import load_record, predict_module
    from trainables.inference import OneView
    from trainables.tta import VIEWS as NAMED
    from trainables.tta import identity

    context = fitting.context
    found: dict[View, NDArray[np.float32]] = {}
    if record.config["tta"] == "none":
        found[identity] = fitting.bank.get(record.trial_id, split)
    missing = [view for view in dict.fromkeys(v for name in options for v in NAMED[name]) if view not in found]
    images = context.splits().part(split).images
    countdown = Countdown(context.say, f"{NAME} ({split})", len(missing) * len(images))
    module = load_record(context.workspace, context.data, record)
    for view in missing:
        found[view] = predict_module(OneView(module, view), images, heard=countdown)
    return {name: np.mean([found[view] for view in NAMED[name]], axis=0) for name in options}


def allowed_views(fitting: Fitting) -> list[str]:
    """Return the views that "auto" may choose: none that flips where flips are forbidden by the user or the diagnosis."""
    workspace = fitting.context.workspace
    diagnosis = read_json(workspace.diagnosis) if workspace.diagnosis.exists() else {}
    forbidden = {*fitting.context.experiment.search.forbid, *diagnosis.get("forbidden", ())}
    return [views for views in VIEWS if views not in FLIPPING or "hflip" not in forbidden]
