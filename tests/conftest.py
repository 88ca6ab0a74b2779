"""Fixtures for tests of any layer."""

import os
import signal
from pathlib import Path

import pytest
import tiny_run
import torch

# The CPU, also where there is a GPU: bit-equal results are promised there only. Child processes inherit it.
os.environ["CUDA_VISIBLE_DEVICES"] = ""

# No bfloat16 instructions either, so that train.precision=auto is float32 without a timing. (Not in child processes.)
torch.cpu.get_capabilities = dict

# A shell's background job ignores Ctrl-C, and child processes inherit that; tests send it to theirs.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def trained(tmp_path: Path) -> tiny_run.Trained:
    """A tiny dataset and a run of three finished folds on it, see tiny_run.py."""
    return tiny_run.make(tmp_path)
