"""Nothing but InputError comes out of readers of settings, run files, weights, run lengths and SEG-Y."""

import io
import json
import struct
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import damage
import numpy as np
import pytest
import segy_files
import tiny_run
import torch
from fuzzing import FUZZ, Changes, changed, changes, only_input_errors
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from saltseg import config, schemas, yaml12
from saltseg.errors import InputError
from saltseg.metrics import rle
from saltseg.models import pretrained_sources
from saltseg.runs import FoldDir
from saltseg.seismic import headers, scan
from saltseg.training import trainer

CONFIG = config.dump(config.Config()).encode()
TEXT = st.text("[]{}:,-&*!|>'\"#%@`0123456789.eE+ \n\tabx", max_size=60)


@FUZZ
@given(st.one_of(changes().map(lambda todo: changed(CONFIG, todo)), TEXT.map(str.encode), st.binary(max_size=40)))
def test_settings(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "config.yaml").write_bytes(data)
    only_input_errors(lambda: config.load(tmp_path / "config.yaml"))


@FUZZ
@given(st.sampled_from(sorted(config.flat(config.Config()))), TEXT)
def test_changes_of_settings(name: str, text: str) -> None:
    only_input_errors(lambda: config.override(config.Config(), [f"{name}={text}"]))
    with suppress(ValueError):
        yaml12.parse(text)


NAMES = ("provenance.json", "metrics.json", "postprocess.json", "dataset.json")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
CONTENT = json.dumps(tiny_run.metrics(0)).encode()


@FUZZ
@given(st.sampled_from(NAMES), st.one_of(JSON.map(lambda v: json.dumps(v).encode()), changes().map(
    lambda todo: changed(CONTENT, todo)
)))  # fmt: skip
def test_run_files(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    only_input_errors(lambda: schemas.read(tmp_path / name))


def saved(value: Any, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}
WEIGHTS = {
    "a.safetensors": save(STATE),
    "a.pth": saved({"state_dict": STATE}),
    "a.pt": saved(STATE, legacy=True),
    "last.ckpt": saved({"callbacks": {}, "state_dict": STATE, "epoch": 1}),
}


@pytest.mark.parametrize("name", WEIGHTS)
@FUZZ
@given(changes())
def test_weights(name: str, tmp_path: Path, todo: Changes) -> None:
    path = tmp_path / name
    path.write_bytes(changed(WEIGHTS[name], todo))
    only_input_errors(lambda: pretrained_sources.read(path))
    if name == "last.ckpt":
        only_input_errors(lambda: trainer._read_last(FoldDir(tmp_path)))


@pytest.mark.parametrize(
    "state",
    [
        {"a": torch.zeros(1).expand(2**40)},  # of four bytes
        {"a": torch.empty(3, device="meta")},
        {"a": torch.eye(3).to_sparse()},
    ],
    ids=["repeated", "meta", "sparse"],
)
def test_tensors_that_lack_their_values_are_refused(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(saved(state))
    with pytest.raises(InputError, match=r"holds a without all its values|more or less than plain tensors"):
        pretrained_sources.read(tmp_path / "a.pth")


@FUZZ
@given(st.text("0123456789 -+.e,", max_size=40))
def test_run_lengths(text: str) -> None:
    only_input_errors(lambda: rle.decode(text))


HEADER = (1, 9, 21, 189, 193)


@FUZZ
@given(
    changes(),
    st.dictionaries(st.sampled_from([3213, 3217, 3221, 3225, 3501, 3505, 3507, 3521]), st.integers(0, 255), max_size=3),
)
def test_segy(tmp_path: Path, todo: Changes, fields: dict[int, int]) -> None:
    path = segy_files.write(tmp_path / "a.sgy", np.ones((6, 5)), [dict.fromkeys(HEADER, n) for n in range(6)])
    data = bytearray(path.read_bytes())
    for byte, value in fields.items():
        struct.pack_into(">H", data, byte - 1, value)
    path.write_bytes(changed(bytes(data), todo))
    only_input_errors(lambda: headers.read_layout(path))
    only_input_errors(lambda: scan.scan(path))


def test_every_variant_of_a_whole_file(tmp_path: Path) -> None:
    """The same values in other places, one by one."""
    for number, value in enumerate(damage.variants(tiny_run.metrics(0))):
        if number % 5 == 0:
            (tmp_path / "metrics.json").write_text(json.dumps(value))
            only_input_errors(lambda: schemas.read(tmp_path / "metrics.json"))


def test_weights_that_are_compressed_are_refused(tmp_path: Path) -> None:
    """torch compresses nothing; a million zeros in a thousand bytes come from somebody else."""
    with (
        zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(10**6)}))) as plain,
        zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in plain.infolist():
            packed.writestr(member.filename, plain.read(member))
    assert (tmp_path / "a.pth").stat().st_size < 10_000
    with pytest.raises(InputError, match="more or less than plain tensors"):
        pretrained_sources.read(tmp_path / "a.pth")
