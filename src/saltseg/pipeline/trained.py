"""What predicts: the networks of a run or of a released model, with their settings and their post-processing."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import nn

from saltseg import __version__, config, schemas
from saltseg.config import Config, Runtime, change
from saltseg.errors import InputError
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


def weights_hash(networks: Sequence[nn.Module]) -> str:
    """A hash of all tensors of some networks."""
    digest = hashlib.sha256()
    for network in networks:
        for tensor in network.state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fingerprint(trained: Trained) -> str:
    """A hash of what probabilities depend on besides the images; how this machine batches is not part of it."""
    device = next(trained.networks[0].parameters()).device
    engine = engines.describe(trained.settings, device)
    text = f"{__version__} windows {engine} {device.type} {config.dump(trained.settings)} "
    return hashlib.sha256((text + weights_hash(trained.networks)).encode()).hexdigest()


@dataclass(frozen=True)
class Reference:
    """What another process loads the same networks by.

    Attributes:
        source: with an absolute path.
        tta, runtime: see `load`.
        weights: `weights_hash` of the networks.
    """

    source: RunDir | ModelDir
    tta: tuple[str, ...] | None
    runtime: Runtime | None
    weights: str


def refer(
    trained: Trained, source: RunDir | ModelDir, tta: tuple[str, ...] | None, runtime: Runtime | None
) -> Reference:
    """The reference to what `load` returned for these arguments."""
    absolute = replace(source, path=source.path.resolve())
    return Reference(absolute, tta, runtime, weights_hash(trained.networks))


@lru_cache(maxsize=1)
def follow(reference: Reference) -> Trained:
    """Load what a reference names, once for all units of work that a process does with it.

    Raises InputError, beside that of `load`, where the files have other weights by now.
    """
    trained = load(reference.source, reference.tta, reference.runtime)
    if weights_hash(trained.networks) != reference.weights:
        raise InputError(f"{reference.source.path} has changed since the prediction began; run the same command again")
    return trained


def settings_of(run: RunDir, runtime: Runtime | None) -> Config:
    """How the networks of a run predict: as they were trained, with the views that its folds were last predicted with.

    Raises:
        InputError: no fold is finished, or the views of the folds differ.
    """
    settings = precision.trained_config(run, runtime)
    found = [schemas.read(fold.metrics)["tta"] for fold in run.trained_folds()]
    views = [list(names) for names in dict.fromkeys(tuple(tta) for tta in found if tta)]
    if len(views) > 1:
        raise InputError(
            f"folds of {run.name} were predicted with different views; predict all again: "
            f"saltseg predict {run.name} --tta {','.join(settings.predict.tta)}"
        )
    return change(settings, {"predict.tta": views[0]}) if views else settings


def _of_run(run: RunDir, runtime: Runtime | None) -> Trained:
    folds, settings = run.trained_folds(), settings_of(run, runtime)
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
