"""last.ckpt that is not what a training left: refused in one line."""

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from tiny_fold import train

from saltseg.errors import InputError
from saltseg.training import optimizers, trainer
from saltseg.training.module import SaltModule

SETTINGS = ("train.epochs=2",)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fold that was broken off in its second epoch."""
    directory, _ = train(tmp_path_factory.mktemp("begun") / "fold_0", *SETTINGS, stop_at=3)
    return directory.last


def without(state: dict[str, Any], *keys: str) -> dict[str, Any]:
    """The same without the value at this path."""
    first, *rest = keys
    if rest:
        return state | {first: without(state[first], *rest)}
    return {key: value for key, value in state.items() if key != first}


def test_what_is_missing_in_a_last_checkpoint_is_named(begun: Path, tmp_path: Path) -> None:
    whole = torch.load(begun, weights_only=True)
    log, stopping = whole["callbacks"]["EpochLog"], next(key for key in whole["callbacks"] if "EarlyStopping" in key)
    last = tmp_path / "fold_0" / "last.ckpt"
    last.parent.mkdir()
    row = log["rows"][0]
    for state, where in (
        ([], "its content is []"),
        ({}, "no callbacks in it"),
        (whole | {"callbacks": []}, "callbacks is []"),
        (without(whole, "callbacks", "EpochLog"), "no callbacks.EpochLog in it"),
        (without(whole, "callbacks", stopping), "no callbacks.EarlyStopping in it"),
        (without(whole, "callbacks", stopping, "wait_count"), "no callbacks.EarlyStopping.wait_count in it"),
        (without(whole, "callbacks", "EpochLog", "rows"), "no callbacks.EpochLog.rows in it"),
        (whole | {"callbacks": whole["callbacks"] | {"EpochLog": log | {"rows": [row | {"train_loss": "x"}]}}},
         "callbacks.EpochLog.rows.0.train_loss is 'x'"),
        (without(whole, "state_dict"), "no state_dict in it"),
        (without(whole, "loops"), "no loops in it"),
        (whole | {"global_step": "x"}, "global_step is 'x'"),
    ):  # fmt: skip
        torch.save(state, last)
        with pytest.raises(InputError) as refused:
            train(last.parent, *SETTINGS)
        text = str(refused.value)
        assert f"{last}: {where}" in text
        assert f"; delete {last.parent} and train again" in text
        assert "\n" not in text
    short = {name: value[:1] if value.ndim else value for name, value in whole["state_dict"].items()}
    for state in (
        whole | {"state_dict": short},
        whole | {"optimizer_states": [{}]},
        whole | {"loops": {"fit_loop": 1}},
    ):
        torch.save(state, last)
        with pytest.raises(InputError, match=r"last.ckpt does not fit this training .*; delete .* and train again"):
            train(last.parent, *SETTINGS)
    torch.save(whole, last)
    (last.parent / "network.ckpt").write_bytes((begun.parent / "network.ckpt").read_bytes())
    assert train(last.parent, *SETTINGS)[0].finished()


@pytest.mark.parametrize(
    ("place", "name"), [(trainer, "make_trainer"), (optimizers, "optimizer"), (SaltModule, "training_step")]
)
@pytest.mark.parametrize("error", [RuntimeError("CUDA driver initialization failed"), KeyError("ours")])
def test_a_last_checkpoint_is_not_blamed_for_the_machine_nor_for_our_own_mistakes(
    place: Any, name: str, error: Exception, begun: Path, tmp_path: Path
) -> None:
    """Before anything is restored, while the optimizer is made, and in the first batch."""
    last = tmp_path / "fold_0" / "last.ckpt"
    last.parent.mkdir()
    last.write_bytes(begun.read_bytes())
    with mock.patch.object(place, name, side_effect=error), pytest.raises(type(error), match=str(error)):
        train(last.parent, *SETTINGS)
