"""The reference of the searches: how a Ray Tune script is plainly written, with the same nets, data, draws and scheduler.

A function trainable in an actor of its own a trial, torchvision v2 transforms in a DataLoader, Ray's ASHA and MLflow callback.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from search_cases import GRACE, HELD_OUT, LR, REDUCTION, Case


def plain_trial(config: dict[str, Any]) -> None:
    """Train one trial as a tutorial would: own data, one report an epoch."""
    import torch
    from ray import tune
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    case = Case(**config["case"])
    train, val = photo_loaders(config["data"], case) if case.photos else array_loaders(config["data"], case)
    nets = {"cnn_b": small_net, "cifar_resnet18": resnet18}
    model, trained = pretrained_head(case) if case.photos else nets[case.model](case)
    optimizer = torch.optim.SGD(trained.parameters(), lr=config["lr"], momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, case.epochs * len(train))
    for epoch in range(case.epochs):
        (trained if case.photos else model).train()
        for images, targets in train:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), targets).backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            hits = sum(int((model(images).argmax(1) == targets).sum()) for images, targets in val)
        tune.report({"accuracy": hits / len(val.dataset), "epoch": epoch + 1})


def resnet18(case: Case) -> tuple[Any, Any]:
    """Return ResNet-18 with a stem for small images, which is trained whole."""
    from torch import nn
    from torchvision.models import resnet18

    model = resnet18(num_classes=10)
    model.conv1 = nn.Conv2d(case.channels, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model, model


def small_net(case: Case) -> tuple[Any, Any]:
    """Return variant B, which is trained whole."""
    from torch import nn

    width, plan, layers = case.width, [], []
    plan = [(case.channels, width, True), (width, 2 * width, False), (2 * width, 4 * width, True)]
    for inputs, outputs, pool in plan:
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pool else []
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * width * (case.side // 4) ** 2, 10))
    return model, model


def pretrained_head(case: Case) -> tuple[Any, Any]:
    """Return MobileNetV2 with its weights, in evaluation mode but for its new head, which alone is trained."""
    import torch
    from torch import nn
    from torchvision.models import mobilenet_v2

    model = mobilenet_v2()
    model.load_state_dict(torch.load(case.weights, weights_only=True))
    model.requires_grad_(False).eval()
    model.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(model.last_channel, 2))
    return model, model.classifier


def array_loaders(path: str, case: Case) -> tuple[Any, Any]:
    """Return loaders of decoded images from an .npz."""
    import numpy as np
    import torch
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import v2

    stored = np.load(path)
    mean, std = ((0.307,), (0.324,)) if case.channels == 1 else ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262))
    final = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    flips = [v2.RandomCrop(case.side, padding=4, padding_mode="reflect"), v2.RandomHorizontalFlip()]

    class Images(Dataset):  # type: ignore[type-arg]
        def __init__(self, split: str, transform: Any) -> None:
            self.images = torch.from_numpy(stored[f"{split}_images"]).permute(0, 3, 1, 2)
            self.targets, self.transform = stored[f"{split}_targets"], transform

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, row: int) -> tuple[Any, int]:
            return self.transform(self.images[row]), int(self.targets[row])

    train = DataLoader(Images("train", v2.Compose([*flips, *final])), batch_size=case.batch, shuffle=True)
    return train, DataLoader(Images("val", v2.Compose(final)), batch_size=256)


def photo_loaders(path: str, case: Case) -> tuple[Any, Any]:
    """Return loaders that decode the photos of a folder with `train/` and `val/` each time."""
    import torch
    from torch.utils.data import DataLoader, Subset
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    sized = [v2.Resize(case.side), v2.CenterCrop(case.side)]
    flips = [v2.RandomCrop(case.side, padding=round(case.side / 8), padding_mode="reflect"), v2.RandomHorizontalFlip()]
    final = [
        v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]  # fmt: skip
    train = ImageFolder(Path(path) / "train", v2.Compose([*sized, *flips, *final]))
    val = ImageFolder(Path(path) / "val", v2.Compose([*sized, *final]))
    kept = Subset(train, [row for row in range(len(train)) if row % round(1 / HELD_OUT)])
    return DataLoader(kept, batch_size=case.batch, shuffle=True), DataLoader(val, batch_size=64)


def plain(case: Case, trials: int, folder: Path) -> dict[str, Any]:
    """Search the plain way and return the best accuracy and how many epochs it took."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.schedulers import ASHAScheduler

    from orchestrator.search.algorithms import derive_seed
    from search_spaces.space import Float, RandomTrial, Space, draw

    data = case.source.partition(":")[2] if case.photos else stored_arrays(case, folder)
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    same = Space("lr", (Float("lr", *LR, log=True),), {})  # the rates that our side draws, in the same order
    rates = [draw(same, RandomTrial(derive_seed(0, k)))["lr"] for k in range(trials)]
    scheduler = ASHAScheduler(time_attr="epoch", max_t=case.epochs, grace_period=GRACE, reduction_factor=REDUCTION)
    found = tune.Tuner(
        tune.with_resources(plain_trial, {"cpu": 1}),
        param_space={"lr": tune.grid_search(rates), "seed": 0, "data": data, "case": vars(case)},
        tune_config=tune.TuneConfig(metric="accuracy", mode="max", scheduler=scheduler if case.epochs > GRACE else None),
        run_config=tune.RunConfig(
            storage_path=str(folder / "ray"), name="plain", verbose=0,
            callbacks=[MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", experiment_name="plain")],
        ),
    ).fit()  # fmt: skip
    histories = [result.metrics_dataframe for result in found]
    ray.shutdown()
    best = max(float(history["accuracy"].max()) for history in histories)
    return {"best": best, "epochs": sum(len(history) for history in histories), "trials": len(histories)}


def stored_arrays(case: Case, folder: Path) -> str:
    """Write the splits that our side uses as arrays, and return the file."""
    import numpy as np

    from trainables.data import DataConfig, load_splits

    splits = load_splits(DataConfig(**case.data()))
    arrays = {f"{name}_{part}": getattr(splits.part(name), part) for name in ("train", "val") for part in ("images", "targets")}
    np.savez(folder / "data.npz", **arrays)
    return str(folder / "data.npz")
