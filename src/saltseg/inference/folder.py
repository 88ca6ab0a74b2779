"""Predict a folder of images of any size that belong to no dataset: masks as PNG files and one CSV."""

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from saltseg import runs, storage
from saltseg.core import rle
from saltseg.data import competition, image_files
from saltseg.errors import InputError
from saltseg.inference import predict, steps


def predict_folder(run: runs.RunDir, images_dir: Path, target: Path) -> int:
    """Predict every image of ``images_dir`` with the mean of the run's folds; returns the number of images.

    Writes ``<id>_mask.png`` (uint8, 255 is salt), ``<id>_probability.png`` (uint8, 255ths) and ``masks.csv``
    (id,height,width,salt_share,rle_mask). The run's decision rule applies; its minimum area was tuned on tiles of
    101x101 and is scaled with the image's area, and its empty-image gate, which knows tiles only, stays open. Raises
    InputError when ``target`` exists.
    """
    if target.exists():
        raise InputError(f"{target} exists; choose another --to or remove it")
    finished = run.trained_folds()
    images = competition.read_folder(images_dir)
    settings = run.read_config()
    rule = steps.rule_of(run)
    networks = [network for fold in finished for network in predict.load_networks(settings, fold)]
    with storage.atomic_dir(target) as beside:
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(("id", "height", "width", "salt_share", "rle_mask"))
        for id_, image in tqdm(images, desc="predicting", unit="img", mininterval=1):
            probability = predict.of_any_size(networks, image, settings)
            scaled = replace(rule, min_area=round(rule.min_area * image.size / math.prod(competition.SHAPE)), gate=0)
            mask = scaled.apply(probability[None])[0]
            image_files.write_png(beside / f"{id_}_mask.png", mask * np.uint8(255))
            image_files.write_png(beside / f"{id_}_probability.png", probability)
            writer.writerow((id_, *image.shape, f"{mask.mean():.4f}", rle.encode(mask)))
        (beside / "masks.csv").write_text(table.getvalue(), encoding="utf-8")
    return len(images)
