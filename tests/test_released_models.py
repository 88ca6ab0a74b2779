"""The models of the repository: whole, small, and what their cards say."""

from pathlib import Path

import numpy as np
import pytest

from saltseg import releases
from saltseg.pipeline import release, trained
from saltseg.pipeline.model import Model
from saltseg.releases import ModelDir
from saltseg.synthetic import tiles

MODELS = sorted((Path(__file__).parents[1] / "models").glob("[!.]*/model.json"))


@pytest.mark.parametrize("path", [path.parent for path in MODELS], ids=[path.parent.name for path in MODELS])
def test_a_model_is_whole_and_finds_salt_on_simulated_tiles(path: Path) -> None:
    """Of 40 simulated tiles, it gives more probability to the pixels of salt than to the others."""
    model = ModelDir(path)
    manifest = model.read_manifest()
    assert manifest["name"] == path.name
    kind = manifest["data"]["kind"]
    assert manifest["license"] == {"simulated": "MIT", "tgs": release.TGS_LICENSE}[kind]
    assert bool(releases.notice(manifest)) == (kind == "tgs")
    assert manifest["half_precision"]["difference"]["at_half"]["mean"] > -0.002
    found = Model(model.name, trained.load(model))
    samples = [next_tile for next_tile, _ in zip(tiles.tiles(seed=12345), range(40), strict=False)]
    probability = np.stack([found.predict(sample.image) for sample in samples])
    true = np.stack([sample.mask for sample in samples]).astype(bool)
    assert probability[true].mean() > probability[~true].mean() + 0.1
    card = model.card.read_text(encoding="utf-8")
    assert f"| {manifest['score']['at_half']:.4f} | {manifest['score']['postprocessed']:.4f} [" in card
