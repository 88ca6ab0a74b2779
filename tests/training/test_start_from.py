"""train.init_from=file:PATH: every fold starts from a whole network's weights in a file."""

from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import tiny_fold
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from saltseg import io, runs
from saltseg.config import Config
from saltseg.data.competition import Images
from saltseg.errors import InputError
from saltseg.models import zoo
from saltseg.models.checkpoints import load_weights
from saltseg.synthetic.dataset import write_dataset
from saltseg.training import fold, pretraining, run_training
from saltseg.training.module import SaltModule
from saltseg.training.run_training import TrainingJob

FIXED = ("train.checkpoint=last", "train.schedule=constant")


def whole_network(path: Path, settings: Config, seed: int = 3) -> dict[str, Tensor]:
    """Weights and statistics at random, in a file."""
    network = zoo.build(settings.model, pretrained=False)
    torch.manual_seed(seed)
    state = {
        name: torch.rand_like(tensor) + 0.5 if tensor.is_floating_point() else torch.full_like(tensor, 3)
        for name, tensor in network.state_dict().items()
    }
    save_file(state, path)
    return state


def test_every_tensor_of_the_file_is_there_before_the_first_step(tmp_path: Path) -> None:
    state = whole_network(tmp_path / "w.safetensors", tiny_fold.settings())
    seen: list[tuple[dict[str, Tensor], str]] = []

    def training_step(module: SaltModule, *_: object) -> Tensor:
        state = {name: tensor.clone() for name, tensor in module.network.state_dict().items()}
        seen.append((state, module.weights_source))
        raise tiny_fold.Interrupted

    data = replace(tiny_fold.data(), start=tmp_path / "w.safetensors")
    with mock.patch.object(SaltModule, "training_step", training_step), pytest.raises(tiny_fold.Interrupted):
        fold.run(tiny_fold.settings(), data, runs.FoldDir(tmp_path / "fold_0"), "tiny")
    tiny_fold.assert_equal(seen[0][0], state)
    assert seen[0][1].startswith("all weights from file w.safetensors (sha256 ")


def test_an_experiment_starts_its_folds_from_a_file_or_is_refused_at_once(tmp_path: Path) -> None:
    write_dataset(tmp_path / "input" / "tiny", n_train=16, n_test=2, seed=3)
    path = tmp_path / "w.safetensors"
    whole_network(path, tiny_fold.settings())
    start = f"train.init_from=file:{path}"

    def train(name: str, *changes: str) -> runs.RunDir:
        settings = tiny_fold.settings("folds.count=2", "train.epochs=1", *FIXED, *changes)
        run = runs.run_dir(tmp_path / "output", name)
        run_training.train_run(TrainingJob(settings, "tiny", run, tmp_path / "input", tmp_path / "output", [0]))
        return run

    figures = io.read_json(train("fine", start).fold(0).metrics)
    assert figures["weights_source"].startswith("all weights from file w.safetensors (sha256 ")
    for changes, message in (
        ((start, "model.filters=3"), r"holds contract1.0.weight of shape \(2, 1, 3, 3\); the network's is \(3, 1, 3, "),
        ((start, "model.skip=none"), r"holds expand6.0.weight of shape"),
        (("train.init_from=file:gone.pth",), r"weights file gone.pth does not exist; check the path behind file:"),
    ):
        with pytest.raises(InputError, match=message):
            train("misfit", *changes)
    assert not runs.run_dir(tmp_path / "output", "misfit").path.exists()


def test_a_fold_of_a_run_on_the_same_data_is_no_start_for_all_folds(tmp_path: Path) -> None:
    """Its network learned from what validates the others; on other data it may be taken."""
    for name, seed in (("tiny", 3), ("other", 4)):
        write_dataset(tmp_path / "input" / name, n_train=16, n_test=2, seed=seed)

    def train(name: str, dataset: str, *changes: str) -> runs.RunDir:
        settings = tiny_fold.settings("folds.count=2", "train.epochs=1", *FIXED, *changes)
        run = runs.run_dir(tmp_path / "output", name)
        run_training.train_run(TrainingJob(settings, dataset, run, tmp_path / "input", tmp_path / "output", [0]))
        return run

    first = train("first", "tiny")
    file = f"train.init_from=file:{first.fold(0).networks(first.read_config().train)[0]}"
    with pytest.raises(
        InputError, match=r"learned from images that validate other folds of the same data; train\.init_from=first"
    ):
        train("leaky", "tiny", file)
    assert not runs.run_dir(tmp_path / "output", "leaky").path.exists()
    elsewhere = train("elsewhere", "other", file)
    again = f"train.init_from=file:{elsewhere.fold(0).networks(elsewhere.read_config().train)[0]}"
    place = pretraining.directory(tmp_path / "output", "simulated")
    pretraining.synthetic(tiny_fold.settings("train.epochs=1", *FIXED, file), place, 8)
    for laundered in (again, f"train.init_from=file:{place.weights}"):
        with pytest.raises(InputError, match=r" learned through first from images that validate other folds"):
            train("leaky", "tiny", laundered)
    assert train("elsewhere-again", "other", f"train.init_from=file:{place.weights}").fold(0).finished()
    assert train("fold-by-fold", "tiny", "train.init_from=first").fold(0).finished()


def test_one_pretraining_goes_on_where_another_ended(tmp_path: Path) -> None:
    """Simulated tiles after real ones, say; with next to no learning rate the weights stay."""
    changes = (f"train.init_from=file:{tmp_path / 'w.safetensors'}", "train.epochs=1", "train.learning_rate=1e-30")
    settings, tiles = tiny_fold.settings(*FIXED, *changes), tiny_fold.data().train
    state = whole_network(tmp_path / "w.safetensors", settings)
    place = pretraining.PretrainedDir(tmp_path / "p")
    pretraining.masked(settings, place, Images(tiles.ids, tiles.images))
    found = load_file(place.weights)
    assert [n for n in state if n.endswith(("weight", "bias")) and not torch.allclose(state[n], found[n])] == []


def test_missing_and_further_tensors_are_named_and_nothing_is_copied(tmp_path: Path) -> None:
    state = whole_network(tmp_path / "w.safetensors", tiny_fold.settings())
    network = zoo.build(tiny_fold.settings().model)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for changed, message in (
        ({name: tensor for name, tensor in state.items() if name != "head.bias"}, "holds no head.bias, which the netw"),
        (state | {"tail": torch.zeros(1)}, "holds tail, which the network does not have; give"),
    ):
        save_file(changed, tmp_path / "w.safetensors")
        with pytest.raises(InputError, match=message):
            load_weights(network, tmp_path / "w.safetensors")
        tiny_fold.assert_equal(before, network.state_dict())
