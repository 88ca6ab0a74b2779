"""Masks of tiles with numpy and onnxruntime alone: python example.py tiles.npy, uint8 (N, 101, 101) → masks.npy."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

folder = Path(__file__).parent
rule = json.loads((folder / "export.json").read_text())["postprocessing"]
if rule["fill_holes"] or rule["hysteresis_high"] > rule["threshold"]:
    sys.exit("post-processing has fill_holes or hysteresis_high, which need saltseg.postprocessing")
session = onnxruntime.InferenceSession(folder / "network.onnx", providers=["CPUExecutionProvider"])
probability, *_ = session.run(None, {"tiles": np.load(sys.argv[1])})  # float32 (N, 101, 101) in [0, 1]
masks = (np.rint(255 * probability) >= rule["threshold"]).astype(np.uint8)
masks[masks.sum(axis=(1, 2)) < rule["min_area"]] = 0
np.save("masks.npy", masks)
