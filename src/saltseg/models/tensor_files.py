"""Files of tensors: looked at before they are read, and never run."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from saltseg import io

MAX_BYTES = 16 * 2**30


def load(path: Path) -> Any:
    """What ``torch.save`` wrote, on the CPU.

    Only tensors and plain values are read (``weights_only=True``): a file from a stranger cannot run code. torch
    compresses nothing, so that a file which is not compressed takes no more memory than it has bytes.

    Raises:
        OSError: there is no such file, or the system cannot read it.
        Exception: of a dozen kinds, for a file that holds something else.
    """
    if wrong := io.irregular(path, MAX_BYTES):
        raise ValueError(wrong)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("it is compressed")
    return torch.load(path, map_location="cpu", weights_only=True)
