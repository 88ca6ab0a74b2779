"""Masks of tiles with numpy and onnxruntime alone: python example.py tiles.npy, uint8 (N, 101, 101) → masks.npy."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

folder = Path(__file__).parent
threshold = json.loads((folder / "export.json").read_text())["postprocessing"]["threshold"]
session = onnxruntime.InferenceSession(folder / "network.onnx", providers=["CPUExecutionProvider"])
probability, *_ = session.run(None, {"tiles": np.load(sys.argv[1])})  # float32 (N, 101, 101) in [0, 1]
np.save("masks.npy", (np.rint(255 * probability) >= threshold).astype(np.uint8))
