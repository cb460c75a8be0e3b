"""The experiment as checked, frozen pydantic models: every key a user may write, its default and its bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

REGRESSION_METRICS = ("rmse", "mae", "r2")
_SECTION = ConfigDict(extra="forbid", frozen=True, strict=True)


class DataSection(BaseModel):
    """`data:` where the images are and how they are split (see `trainables.data.dataset.DataConfig`)."""

    model_config = _SECTION
    source: str = Field("digits", description="digits | folder:PATH | csv:PATH | cifar10, mnist, ... | module:callable")
    root: str = Field("", description="folder of a torchvision data set")
    download: bool = Field(False, description="allow torchvision to download")
    task: Literal["classification", "regression"] = "classification"
    image_size: int = Field(0, ge=0, le=4096, description="side in pixels; 0: as the data, or as the weights want")
    channels: Literal[0, 1, 3] = Field(0, description="0: as the data")
    val_fraction: float = Field(0.2, gt=0, lt=0.9)
    test_fraction: float = Field(0.2, gt=0, lt=0.9)
    split_seed: int = Field(0, ge=0)
    limit: int = Field(0, ge=0, description="cap of train + validation images (0: all)")
    min_per_class: int = Field(5, ge=2)
    max_bad_fraction: float = Field(0.1, ge=0, lt=1)
    cache: Literal["auto", "memory", "disk", "none"] = "auto"
    cache_dir: str = Field("", description="folder of decoded images (default: the user's cache folder)")
    max_pixels: int = Field(50_000_000, gt=0)


class SearchSection(BaseModel):
    """`search:` what is varied, how often, by which algorithm, and where it runs."""

    model_config = _SECTION
    space: str = Field("scratch", description="scratch | finetune | PATH.py | PATH.yaml")
    trials: int = Field(12, ge=1, le=100_000)
    algorithm: Literal["tpe", "random", "gp", "cmaes", "grid"] = "tpe"
    scheduler: Literal["asha", "hyperband", "median", "pbt", "none"] = "asha"
    metric: Literal["accuracy", "log_loss", "balanced_accuracy", "macro_f1", "brier", "loss", "rmse", "mae", "r2"] = "accuracy"
    objective: Literal["own", "ensemble_gain"] = Field(
        "own", description="the searcher is told a trial's own score, or half its log-loss and half the ensemble's with it in"
    )
    grace_epochs: int = Field(2, ge=1)
    reduction_factor: int = Field(3, ge=2)
    concurrency: int = Field(0, ge=0, description="trials at once; 0: as the machine allows")
    cpus_per_trial: float = Field(1.0, gt=0)
    gpus_per_trial: float = Field(-1.0, ge=-1, description="-1: one GPU shared by what fits when there is one, else 0")
    backend: Literal["ray", "slots", "local"] = Field(
        "ray", description="ray: a process a trial; slots: trials of one shape train as one array in an engine a device; local"
    )
    slots: int = Field(
        8, ge=1, le=256, description="backend slots: trials at once a GPU, or on a node's CPUs where there is none"
    )
    address: str = Field("local", description="local | auto | host:port")
    max_failures: int = Field(2, ge=0)
    time_budget_s: float = Field(0.0, ge=0, description="0: none")
    trial_timeout_s: float = Field(
        0.0, ge=0, description="backend ray: a trial in which no epoch ends for so long is ended and tried again; 0: never"
    )
    keep_weights: int = Field(12, ge=1, description="weights are kept for this many best trials")
    disk_cap_gb: float = Field(5.0, gt=0, description="cap of weights and checkpoints of the whole run folder")
    forbid: tuple[str, ...] = Field((), description="augmentations that change the label: hflip, vflip, rotate180, ...")
    light: bool = Field(
        True, description="fit linear classifiers on the frozen features first, where the baseline has pretrained weights"
    )
    seed_baseline: bool = Field(True, description="the baseline is the first point asked")


class RefitSection(BaseModel):
    """`ensemble.refit:` retraining of the top configurations; the new members join the pool and selection decides."""

    model_config = _SECTION
    mode: Literal["none", "seeds", "bootstrap", "subsample", "fold"] = "seeds"
    top: int = Field(1, ge=1)
    members: int = Field(3, ge=1, description="retrainings of each top configuration")
    fraction: float = Field(0.8, gt=0, le=1)
    stratified: bool = True


class EnsembleSection(BaseModel):
    """`ensemble:` how members are chosen, combined, calibrated and judged."""

    model_config = _SECTION
    method: Literal["convex", "greedy", "log_pool", "topk", "single", "auto"] = "convex"
    voting: Literal["soft", "hard", "log"] = "soft"
    metric: Literal["log_loss", "accuracy", "balanced_accuracy", "macro_f1", "brier", "rmse", "mae", "r2"] = "log_loss"
    max_members: int = Field(8, ge=1)
    iterations: int = Field(25, ge=1)
    diversity: float = Field(0.0, ge=0)
    calibrate: bool = True
    calibration: Literal["temperature", "vector", "isotonic"] = Field(
        "temperature", description="after the vote: one temperature; or then also a scale and a bias, or a curve, a class"
    )
    refit: RefitSection = Field(default_factory=lambda: RefitSection())
    boost_rounds: int = Field(
        0, ge=0, description="SAMME / AdaBoost.R2 stages of the best configuration after it itself (0: no boosting)"
    )
    soup: bool = Field(True, description="average the weights of networks of one configuration; kept if validation says so")
    student: bool = Field(False, description="train one model towards the ensemble's answers; it joins the family")
    tta: Literal["auto", "none", "flip", "crops", "scales", "full"] = Field(
        "auto", description="views of the control `best single + TTA`; auto: chosen on validation; none: no such control"
    )
    require_gain: bool = False


class TrackingSection(BaseModel):
    """`tracking:` which MLflow hears of it."""

    model_config = _SECTION
    uri: str = Field("", description="sqlite:///PATH | http(s)://server | none; empty: MLFLOW_TRACKING_URI, else run_dir's")
    experiment: str = Field("", description="MLflow experiment; empty: the experiment's name")


class ExportSection(BaseModel):
    """`export:` what is written and registered."""

    model_config = _SECTION
    register_model: bool = Field(True, description="register the ensemble in MLflow's registry")
    model_name: str = Field("", description="registered name; empty: the experiment's name")


class Experiment(BaseModel):
    """A whole experiment file."""

    model_config = _SECTION
    name: str = Field("digits", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    seed: int = Field(0, ge=0, lt=2**31)
    run_dir: str = Field("runs", description="run folder = run_dir/name, on a path that every node sees")
    data: DataSection = Field(default_factory=lambda: DataSection())
    train: dict[str, Any] = Field(default_factory=dict, description="fixed TrainConfig values of every trial; the space's win")
    baseline: dict[str, Any] = Field(default_factory=dict, description="TrainConfig values of the baseline, over `train`")
    search: SearchSection = Field(default_factory=lambda: SearchSection())
    ensemble: EnsembleSection = Field(default_factory=lambda: EnsembleSection())
    tracking: TrackingSection = Field(default_factory=lambda: TrackingSection())
    export: ExportSection = Field(default_factory=lambda: ExportSection())

    @model_validator(mode="before")
    @classmethod
    def _regression_metrics(cls, values: Any) -> Any:
        """Let a regression's unset metrics default to rmse."""
        if not isinstance(values, dict) or _get(values, "data", "task") != "regression":
            return values
        return values | {
            name: {"metric": "rmse", **values.get(name, {})}
            for name in ("search", "ensemble")
            if isinstance(values.get(name, {}), dict)
        }

    @model_validator(mode="after")
    def _metric_fits_the_task(self) -> Experiment:
        regression = self.data.task == "regression"
        for section, metric in (("search", self.search.metric), ("ensemble", self.ensemble.metric)):
            if metric != "loss" and (metric in REGRESSION_METRICS) != regression:
                allowed = (
                    ", ".join(REGRESSION_METRICS) if regression else "accuracy, log_loss, balanced_accuracy, macro_f1, brier"
                )
                raise ValueError(f"{section}.metric: got {metric!r} with data.task {self.data.task!r}, allowed: {allowed}")
        if self.ensemble.calibration != "temperature" and (regression or not self.ensemble.calibrate):
            raise ValueError(
                f"ensemble.calibration: got {self.ensemble.calibration!r}, which needs classes and ensemble.calibrate: true; "
                "allowed here: temperature"
            )
        if regression and self.search.objective != "own":
            raise ValueError(f"search.objective: got {self.search.objective!r} with data.task 'regression', allowed: own")
        return self

    @property
    def run_path(self) -> Path:
        """Return the run folder."""
        return (Path(self.run_dir).expanduser() / self.name).absolute()

    @property
    def tracking_experiment(self) -> str:
        """Return the name of the MLflow experiment."""
        return self.tracking.experiment or self.name

    @property
    def model_name(self) -> str:
        """Return the registered model's name."""
        return self.export.model_name or self.name


def _get(values: dict[str, Any], section: str, key: str) -> Any:
    found = values.get(section)
    return found.get(key) if isinstance(found, dict) else getattr(found, key, None)
