"""The tiles of a run for the page: each predicted out of fold, with its true mask."""

from dataclasses import dataclass, replace
from typing import Any

from saltseg import predictions
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.pipeline import tune
from saltseg.pipeline.workspace import Workspace
from saltseg.reporting import gallery
from saltseg.runs import RunDir
from saltseg.viewer.items import Item

ROWS = 12  # tiles of each kind


@dataclass(frozen=True, eq=False)
class Tiles:
    """Out-of-fold tiles, scored with the post-processing of the run.

    Attributes:
        run: its name.
        scored: the tiles.
    """

    run: str
    scored: gallery.ScoredTiles

    @classmethod
    def read(cls, run: RunDir, workspace: Workspace) -> "Tiles":
        """All out-of-fold tiles of a run; raises InputError where there are none, or its dataset is not here."""
        run.require_oof_score("the page has no tiles of it")
        if not run.oof.is_file():
            raise InputError(f"{run.name} has no out-of-fold predictions yet; saltseg predict {run.name}")
        labeled = competition.read_train(workspace.root(run))
        # The page has no presence probabilities, so its scores are without that threshold.
        postprocessing = replace(tune.postprocessing_of(run), presence_threshold=0)
        return cls(run.name, gallery.score(predictions.load_predictions(run.oof), labeled, postprocessing))

    def groups(self) -> list[dict[str, Any]]:
        """Lists of tiles: the best, the median and the worst, and all by id. Each is title and [index, text] pairs."""
        by_id = sorted(range(len(self.scored.ids)), key=lambda index: self.scored.ids[index])
        indices_of_title = {kind.capitalize(): found for kind, found in gallery.choose(self.scored, ROWS).items()}
        return [
            {"title": title, "tiles": [[index, self._entry(index)] for index in indices]}
            for title, indices in {**indices_of_title, "All": by_id}.items()
        ]

    def _entry(self, index: int) -> str:
        return f"{self.scored.ids[index]} · {self.scored.average_precision[index]:.1f}"

    def item(self, index: int) -> Item:
        """One tile; raises InputError where there is none."""
        if not 0 <= index < len(self.scored.ids):
            raise InputError(f"no tile {index}: there are {len(self.scored.ids):,}; reload the page")
        layers = {
            "image": self.scored.images[index],
            "probability": self.scored.probabilities[index],
            "truth": self.scored.true[index],
        }
        return Item(gallery.title(self.scored, index), self.scored.ids[index], layers)
