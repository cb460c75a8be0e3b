"""One search as a process of its own: the plain way a Ray Tune script is written, or ours; `throughput.py` measures both.

Run: python benchmarks/searches.py plain|ray|slots --trials 6 --folder /tmp/somewhere
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

SIDE, IMAGES, WIDTH, BATCH = 32, 420, 16, 32
EPOCHS, GRACE, REDUCTION = 4, 1, 3
LR = (1e-3, 0.3)


def plain_trial(config: dict[str, Any]) -> None:
    """Train one trial as a tutorial would: own data, torchvision v2 in a DataLoader, one report an epoch."""
    import numpy as np
    import torch
    from ray import tune
    from torch import nn
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    stored = np.load(config["data"])
    final = [v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.307,), (0.324,))]
    flips = [v2.RandomCrop(SIDE, padding=4, padding_mode="reflect"), v2.RandomHorizontalFlip()]

    class Images(Dataset):  # type: ignore[type-arg]
        def __init__(self, split: str, transform: Any) -> None:
            self.images = torch.from_numpy(stored[f"{split}_images"]).permute(0, 3, 1, 2)
            self.targets, self.transform = stored[f"{split}_targets"], transform

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, row: int) -> tuple[Any, int]:
            return self.transform(self.images[row]), int(self.targets[row])

    train = DataLoader(Images("train", v2.Compose([*flips, *final])), batch_size=BATCH, shuffle=True)
    val = DataLoader(Images("val", v2.Compose(final)), batch_size=256)
    plan, layers = [(1, WIDTH, True), (WIDTH, 2 * WIDTH, False), (2 * WIDTH, 4 * WIDTH, True)], []
    for inputs, outputs, pool in plan:
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pool else []
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * WIDTH * (SIDE // 4) ** 2, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * len(train))
    for epoch in range(EPOCHS):
        model.train()
        for images, targets in train:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), targets).backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            hits = sum(int((model(images).argmax(1) == targets).sum()) for images, targets in val)
        tune.report({"accuracy": hits / len(val.dataset), "epoch": epoch + 1})  # type: ignore[arg-type]


def plain(trials: int, folder: Path) -> dict[str, Any]:
    """Search with Tune's function trainable, a new actor a trial, ASHA, random draws and Ray's MLflow callback."""
    import numpy as np
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.schedulers import ASHAScheduler

    from orchestrator.search.algorithms import derive_seed
    from search_spaces.space import Float, RandomTrial, Space, draw
    from trainables.data import DataConfig, load_splits

    splits = load_splits(DataConfig(source="digits", image_size=SIDE, limit=IMAGES))
    arrays = {f"{name}_{part}": getattr(splits.part(name), part) for name in ("train", "val") for part in ("images", "targets")}
    np.savez(folder / "data.npz", **arrays)
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    same = Space("lr", (Float("lr", *LR, log=True),), {})  # the rates that our side draws, in the same order
    rates = [draw(same, RandomTrial(derive_seed(0, k)))["lr"] for k in range(trials)]
    space = {"lr": tune.grid_search(rates), "seed": 0, "data": str(folder / "data.npz")}
    found = tune.Tuner(
        tune.with_resources(plain_trial, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="accuracy", mode="max",
            scheduler=ASHAScheduler(time_attr="epoch", max_t=EPOCHS, grace_period=GRACE, reduction_factor=REDUCTION),
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder / "ray"), name="plain", verbose=0,
            callbacks=[MLflowLoggerCallback(tracking_uri=uri, experiment_name="plain")],
        ),
    ).fit()  # fmt: skip
    histories = [result.metrics_dataframe for result in found]
    best = max(float(history["accuracy"].max()) for history in histories)
    epochs = sum(len(history) for history in histories)
    ray.shutdown()
    return {"best": best, "epochs": epochs, "trials": len(histories)}


def ours(backend: str, trials: int, folder: Path, slots: int, cpus_per_trial: float) -> dict[str, Any]:
    """Search with the same net, data, draws and scheduler through `run_search`, MLflow's tracker included."""
    from orchestrator.config import Experiment
    from orchestrator.search.ledger import read_events
    from orchestrator.search.progress import Silent
    from orchestrator.search.run import run_search
    from orchestrator.store.workspace import Workspace
    from orchestrator.tracking import open_tracker

    space = {"name": "lr", "constants": {"epochs": EPOCHS}, "dimensions": {"lr": {"float": list(LR), "log": True}}}
    (folder / "space.yaml").write_text(json.dumps(space))
    experiment = Experiment.model_validate(
        {
            "name": backend, "run_dir": str(folder / "runs"), "data": {"source": "digits", "image_size": SIDE, "limit": IMAGES},
            "train": {
                "model": "cnn_b", "width": WIDTH, "batch_size": BATCH, "optimizer": "sgd", "augmentation": "crop_flip",
            },
            "search": {
                "space": str(folder / "space.yaml"), "trials": trials, "algorithm": "random", "grace_epochs": GRACE,
                "reduction_factor": REDUCTION, "backend": backend, "slots": slots, "seed_baseline": False,
                "cpus_per_trial": cpus_per_trial,
            },
        },
        strict=False,
    )  # fmt: skip
    workspace = Workspace(experiment.run_path)
    tracker = open_tracker(experiment, workspace)
    try:
        records = run_search(experiment, workspace, tracker, progress=Silent())
    finally:
        tracker.close()
    failed = [record.trial_id for record in records if record.status == "failed"]
    assert not failed, f"failed: {failed}"
    told = [event for event in read_events(workspace.ledger) if event["event"] == "slots"]
    return {
        "best": max(record.score("accuracy") for record in records),
        "epochs": sum(record.epochs_run for record in records),
        "trials": len(records),
        "slots": {
            key: told[-1][key] for key in ("engines", "slots", "occupancy", "device_busy", "ticks", "slot_epochs", "pools")
        }
        if told
        else {},
    }


def main() -> None:
    """Run one search and write what it found to FOLDER/result.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=("plain", "ray", "slots"))
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--cpus-per-trial", type=float, default=1.0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.way == "plain":
        found = plain(options.trials, options.folder)
    else:
        found = ours(options.way, options.trials, options.folder, options.slots, options.cpus_per_trial)
    (options.folder / "result.json").write_text(json.dumps(found))


if __name__ == "__main__":
    sys.exit(main())
