"""What predicts: the networks of a run or of a released model, with their settings and their post-processing."""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from torch import nn

from saltseg import config
from saltseg.config import Config, Runtime, change
from saltseg.inference import engines
from saltseg.models import checkpoints, half_precision, precision
from saltseg.pipeline import tune
from saltseg.postprocessing.parameters import Postprocessing
from saltseg.releases import ModelDir
from saltseg.runs import RunDir


class Trained(NamedTuple):
    """Networks on the best device, in evaluation mode, whose predictions are averaged; and how to use them."""

    settings: Config
    networks: list[nn.Module]
    postprocessing: Postprocessing


def load(source: RunDir | ModelDir, tta: tuple[str, ...] | None = None, runtime: Runtime | None = None) -> Trained:
    """Read the networks of all finished folds of a run, or those of a model.

    Args:
        source: what `saltseg.releases.find` found.
        tta: names of views; None: those that the run or the model was scored with.
        runtime: how this machine computes; None: the defaults.

    Raises:
        InputError: there are none, files are damaged, or ``runtime.engine`` cannot compute here.
    """
    trained = _of_model(source, runtime) if isinstance(source, ModelDir) else _of_run(source, runtime)
    engines.check(trained.settings)
    return trained._replace(settings=change(trained.settings, {"predict.tta": list(tta)})) if tta else trained


@lru_cache(maxsize=1)
def kept(source: RunDir | ModelDir, tta: tuple[str, ...] | None, runtime: Runtime | None) -> Trained:
    """`load`, once for all units of work that one process does."""
    return load(source, tta, runtime)


def _of_run(run: RunDir, runtime: Runtime | None) -> Trained:
    folds, settings = run.trained_folds(), precision.trained_config(run, runtime)
    postprocessing = tune.postprocessing_of(run)
    networks = [network for fold in folds for network in checkpoints.load_networks(settings, fold)]
    return Trained(settings, networks, postprocessing)


def _of_model(model: ModelDir, runtime: Runtime | None) -> Trained:
    manifest = model.read_manifest()
    settings = replace(released_settings(config.load(model.config), manifest["tta"]), runtime=runtime or Runtime())
    device = precision.best_device()
    networks = [half_precision.read(settings, model.path / name).to(device) for name in manifest["weights"]]
    return Trained(settings, networks, Postprocessing.from_dict(manifest["postprocessing"]))


def released_settings(settings: Config, tta: list[str]) -> Config:
    """How a model predicts: with the views that it was scored with, and in float32, which every machine computes."""
    return change(settings, {"train.precision": "32", "predict.tta": tta})
