"""Refits: what is trained again and on which rows, and bags that stop when they bring nothing out of bag."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.config import RefitSection
from orchestrator.stages import refit
from orchestrator.stages.refit import refit_specs, run_refits, top_up_seeds
from orchestrator.store.records import MemberRecord, TrialSpec


def record(trial_id: str, kind: str = "trial") -> MemberRecord:
    return MemberRecord(trial_id, kind, "image", {"lr": 0.1, "seed": 5}, 5, "h", "f", "finished", best_epoch=1)


def test_seeds_change_nothing_but_the_seed() -> None:
    specs = refit_specs([record("a"), record("b")], RefitSection(mode="seeds", top=2), members=2)
    assert [spec.trial_id for spec in specs] == ["a-seeds1", "a-seeds2", "b-seeds1", "b-seeds2"]
    assert {spec.kind for spec in specs} == {"refit"}
    assert [set(spec.config) for spec in specs] == [{"lr", "seed"}] * 4
    assert len({spec.config["seed"] for spec in specs[:2]} | {5}) == 3


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (RefitSection(mode="bootstrap", stratified=False), {"rows": "bootstrap", "row_fraction": 1.0, "stratified": False}),
        (RefitSection(mode="subsample", fraction=0.7), {"rows": "subsample", "row_fraction": 0.7, "stratified": True}),
        (RefitSection(mode="fold"), {"rows": "fold", "folds": 3}),
    ],
)
def test_bags_name_their_rows(section: RefitSection, expected: dict[str, Any]) -> None:
    specs = refit_specs([record("a")], section, members=3)
    assert all(spec.kind == "bag" and spec.parent == "a" and expected.items() <= spec.config.items() for spec in specs)
    drawn = [(spec.config.get("row_seed"), spec.config.get("fold")) for spec in specs]
    assert len(set(drawn)) == 3


def test_other_rows_are_other_members() -> None:
    sections = [
        RefitSection(mode="subsample"), RefitSection(mode="subsample", fraction=0.5), RefitSection(mode="bootstrap"),
        RefitSection(mode="subsample", stratified=False), RefitSection(mode="bootstrap", stratified=False),
    ]  # fmt: skip
    ids = [refit_specs([record("a")], section, members=1)[0].trial_id for section in sections]
    ids += [refit_specs([record("a")], RefitSection(mode="fold"), members=folds)[0].trial_id for folds in (3, 5)]
    assert len(set(ids)) == 7 and ids[0] == "a-subsample1"


def stage(records: list[MemberRecord], mode: Any = "seeds") -> Any:
    """Return the fitting of a run whose trainings only add a record, and whose ensembles take all they are given."""
    experiment = SimpleNamespace(ensemble=SimpleNamespace(refit=RefitSection(mode=mode, members=1)))

    def train(specs: list[TrialSpec]) -> None:
        there = {found.trial_id for found in records}
        new = [spec for spec in specs if spec.trial_id not in there]
        records.extend(record(spec.trial_id, spec.kind).replace(config=dict(spec.config)) for spec in new)

    return SimpleNamespace(
        context=SimpleNamespace(
            experiment=experiment, say=lambda _: None, train=train, workspace=SimpleNamespace(load_records=lambda: records)
        ),
        parents=lambda: [found for found in records if found.kind == "trial"],
        trained=lambda: list(records),
        candidates=lambda: [found for found in records if found.kind != "control"],
        fit=lambda pool, folds: SimpleNamespace(member_ids=[found.trial_id for found in pool]),  # noqa: ARG005
    )


def test_the_control_gets_as_many_seeds_as_the_ensemble_has_members_once() -> None:
    records = [record("a"), record("b").replace(config_hash="other"), record("l", "light").replace(config_hash="l")]
    fitting = stage(records)
    for _ in range(2):  # asked again, all of it is there
        run_refits(fitting)
        top_up_seeds(fitting, size=5)
        assert [found.trial_id for found in records[3:]] == ["a-seeds1", "a-seeds2", "a-control1", "a-control2"]
    assert [found.kind for found in records[3:]] == ["refit", "refit", "control", "control"]
    assert len({found.config["seed"] for found in records if found.config_hash == "h"}) == 5
    top_up_seeds(fitting, size=6)
    assert [found.trial_id for found in records[7:]] == ["a-control3"]


def test_where_nothing_is_asked_to_be_trained_again_the_control_is_not_either() -> None:
    records = [record("a")]
    top_up_seeds(stage(records, "none"), size=5)
    assert len(records) == 1


def test_only_what_the_search_trained_is_trained_again() -> None:
    assert refit_specs([record("a-boost1", "boost"), record("s", "soup")], RefitSection(mode="seeds"), members=2) == []
    assert refit_specs([record("a")], RefitSection(mode="none"), members=2) == []


@pytest.mark.parametrize(("noise_after", "trained"), [(99, 10), (6, 6), (9, 9)])
def test_bags_come_three_at_a_time_until_the_gain_is_noise(
    monkeypatch: pytest.MonkeyPatch, noise_after: int, trained: int
) -> None:
    done: list[TrialSpec] = []

    monkeypatch.setattr(refit, "bags_of", lambda *_: len(done))
    monkeypatch.setattr(refit, "enough_bags", lambda _, bags: bags >= noise_after)
    section = RefitSection(mode="bootstrap", members=10)
    context = SimpleNamespace(
        experiment=SimpleNamespace(ensemble=SimpleNamespace(refit=section)), say=lambda _: None, train=done.extend
    )  # fmt: skip
    fitting: Any = SimpleNamespace(context=context, parents=lambda: [record("a")])
    stopped = run_refits(fitting)
    assert len(done) == trained
    assert ("noise" in stopped["a"]) == (trained < 10)
