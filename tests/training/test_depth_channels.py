"""Depth channels of padded tiles: -1 to 1 over the tile's own rows, in training, prediction and weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_fold import assert_equal, settings, train, weights
from torch import Tensor

from saltseg import config, io
from saltseg.models import checkpoints, zoo
from saltseg.runs import RunDir
from saltseg.training.module import SaltModule

DEPTH = ("model.extra_channels=[row, image_x_row]",)
PADDED = (*DEPTH, "data.resize_mode=pad", "data.size=128")
RAMP = np.linspace(-1, 1, 101)
MIRRORED = np.pad(RAMP, (13, 14), "reflect")


def depth_channels(network: Any, image: Tensor) -> Tensor:
    """The two channels that reach the encoder-decoder, (N, 2, H, W)."""
    seen: list[Tensor] = []
    handle = network.network.register_forward_pre_hook(lambda _, given: seen.append(given[0][:, 1:]))
    with torch.no_grad():
        network.eval()(image)
    handle.remove()
    return seen[0]


def test_rows_of_a_padded_tile_are_numbered_over_the_tile_and_mirrored_around_it() -> None:
    """13 rows are added above the tile and 14 below."""
    image = torch.rand(2, 1, 128, 128)
    row, image_x_row = depth_channels(SaltModule(settings(*PADDED), 0, (101, 101)).network, image).split(1, dim=1)
    np.testing.assert_allclose(row, np.broadcast_to(MIRRORED[:, None], (2, 1, 128, 128)), atol=1e-6)
    assert (row[0, 0, 13, 0], row[0, 0, 113, 0]) == (-1, 1)
    np.testing.assert_allclose(image_x_row, image.numpy() * MIRRORED[:, None], atol=1e-6)


def test_a_size_that_the_network_pads_further_mirrors_the_rows_further() -> None:
    """112 is padded to 128 within the network."""
    network = SaltModule(settings(*PADDED, "data.size=112"), 0, (101, 101)).network
    row = depth_channels(network, torch.rand(1, 1, 112, 112))[0, 0, :, 0]
    expected = np.pad(np.pad(RAMP, (5, 6), "reflect"), (8, 8), "reflect")
    np.testing.assert_allclose(row, expected, atol=1e-6)


def test_at_half_the_resolution_a_row_has_the_mean_of_two() -> None:
    network = SaltModule(settings(*PADDED), 0, (101, 101)).network
    row = depth_channels(network, torch.rand(1, 1, 64, 64))[0, 0, :, 0]
    np.testing.assert_allclose(row, MIRRORED.reshape(64, 2).mean(axis=1), atol=1e-6)


def test_resized_tiles_fill_the_input_so_that_nothing_is_stored() -> None:
    module = SaltModule(settings(*DEPTH, "data.size=64"), 0, (101, 101))
    assert "row" not in module.network.state_dict()
    row = depth_channels(module.network, torch.rand(1, 1, 64, 64))[0, 0, :, 0]
    assert torch.equal(row, torch.linspace(-1, 1, 64))
    plain = SaltModule(settings("data.resize_mode=pad", "data.size=128"), 0, (101, 101))
    assert "row" not in plain.network.state_dict()


@pytest.mark.parametrize("ema", ["0", "0.9"])
def test_the_numbers_travel_with_the_weights(ema: str, tmp_path: Path) -> None:
    fixed = ("train.checkpoint=last", "train.schedule=constant", f"train.ema_decay={ema}", "train.epochs=1")
    directory, _ = train(tmp_path / "fold_0", *PADDED, *fixed)
    network = checkpoints.load_network(settings(*PADDED), directory.network)
    row = depth_channels(network, torch.rand(1, 1, 128, 128))[0, 0, :, 0]
    np.testing.assert_allclose(row, MIRRORED, atol=1e-6)


def test_networks_from_before_the_numbers_see_what_they_were_trained_with(tmp_path: Path) -> None:
    """-1 to 1 over the whole input, to the bit, whatever the network that loads them had."""
    torch.manual_seed(0)
    image = torch.rand(2, 1, 128, 128)
    old = zoo.build(settings(*PADDED).model).to(memory_format=torch.channels_last).eval()
    assert "row" not in old.state_dict()
    checkpoints.save(tmp_path / "network.ckpt", {"state_dict": old.state_dict()})
    loaded = checkpoints.load_network(settings(*PADDED), tmp_path / "network.ckpt")
    module = SaltModule(settings(*PADDED), 0, (101, 101))
    module.network.load_state_dict(old.state_dict())
    for network in (loaded, module.network.eval()):
        assert torch.equal(depth_channels(network, image)[0, 0, :, 0], torch.linspace(-1, 1, 128))
        assert torch.equal(network(image), old(image))


def test_a_training_that_was_begun_before_the_numbers_goes_on_without_them(tmp_path: Path) -> None:
    changes = (*PADDED, "train.checkpoint=last", "train.schedule=constant", "train.ema_decay=0.9", "train.epochs=2")
    directory, _ = train(tmp_path / "fold_0", *changes, stop_at=4)
    state = torch.load(directory.last, weights_only=True)
    for part in ("state_dict", "current_model_state", "averaging_state"):
        state[part] = {name: tensor for name, tensor in state[part].items() if not name.endswith("network.row")}
    torch.save(state, directory.last)
    train(tmp_path / "fold_0", *changes)
    assert "row" not in weights(directory.network)


@pytest.mark.parametrize("source", [PADDED, DEPTH, (*PADDED, "data.size=112")], ids=["pad", "resize", "pad to 112"])
@pytest.mark.parametrize("goal", [PADDED, DEPTH], ids=["pad", "resize"])
def test_a_training_that_starts_from_other_weights_numbers_the_rows_of_its_own_input(
    source: tuple[str, ...], goal: tuple[str, ...], tmp_path: Path
) -> None:
    """Those of a file or of another run's fold."""
    run = RunDir(tmp_path / "source")
    state = SaltModule(settings(*source), 3, (101, 101)).network.state_dict()
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, tmp_path / "whole.safetensors")
    io.write_atomic(run.config, config.dump(settings(*source)))
    checkpoints.save(run.fold(0).network, {"state_dict": state})
    own = SaltModule(settings(*goal), 0, (101, 101)).network.state_dict().get("row")
    for start in (tmp_path / "whole.safetensors", run.fold(0)):
        found = SaltModule(settings(*goal), 0, (101, 101), start=start).network.state_dict()
        row = found.pop("row", None)
        assert (row is None) if own is None else torch.equal(row, own)
        assert_equal(found, {name: tensor for name, tensor in state.items() if name != "row"})
