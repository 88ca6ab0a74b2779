"""Released models: a folder with the weights of one fold and all that it takes to predict with them.

A name is looked for among the runs and among the models of the checkout that the package is imported from. Where the
package was installed without a checkout there are none; then a model is given by its path.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saltseg import io, runs, schemas
from saltseg.errors import InputError, unknown_name
from saltseg.runs import File, RunDir

PROJECT_LICENSE = "MIT"
MAX_WEIGHTS_BYTES = 10_000_000  # of a file: git keeps every version of it


@dataclass(frozen=True)
class ModelDir:
    """The files of a released model, ``models/NAME``; ``model.json`` lists the others with their hashes."""

    path: Path

    manifest = File("model.json")
    config = File("config.yaml")  # of the run, as it was trained
    provenance = File("provenance.json")  # of the run
    card = File("README.md")  # the model card

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def weights(self, number: int, count: int) -> Path:
        """Weights of one (0, 1, …) of the ``count`` networks."""
        return self.path / ("weights.safetensors" if count == 1 else f"weights_{number + 1:02d}.safetensors")

    def read_manifest(self) -> dict[str, Any]:
        """What model.json says; InputError where a file is not the one that it lists."""
        manifest = schemas.read(self.manifest)
        for name, digest in manifest["files"].items():
            if (found := file_hash(self.path / name)) != digest:
                raise InputError(
                    f"{self.path / name} has the sha256 {found[:12]}…, and {self.manifest} says {digest[:12]}…; "
                    "fetch the model again"
                )
        return manifest

    def read_provenance(self) -> dict[str, Any]:
        """Where the run of the model came from, see `saltseg.provenance`."""
        return schemas.read(self.provenance)


def notice(manifest: dict[str, Any]) -> str:
    """What a user of a model must know before its first use; "" for one under the project's own license."""
    return "" if manifest["license"] == PROJECT_LICENSE else f"{manifest['name']}: {manifest['license']}"


def file_hash(path: Path) -> str:
    """sha256 of a file of a model in hexadecimal digits; InputError for one that is missing or too large."""
    try:
        if wrong := io.irregular(path, MAX_WEIGHTS_BYTES):
            raise InputError(f"{path} is no file of a model ({wrong}); fetch the model again")
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); fetch the model again") from None


def models_dir() -> Path | None:
    """The folder ``models`` of the checkout that this package is imported from; None where it is in no checkout."""
    root = Path(__file__).parents[2]
    return root / "models" if (root / "setup.cfg").is_file() else None


def find(name: str, output_dir: Path) -> RunDir | ModelDir:
    """The run, blend or released model that a user names.

    Args:
        name: of a run or blend under ``output_dir`` or of a model of the checkout; or, with a slash in it, the path of
            the folder of one.
        output_dir: where runs are.

    Raises:
        InputError: there is none, or a run and a model of that name.
    """
    if {"/", os.sep} & set(name) or name in (".", ".."):
        return _at(Path(name))
    folder = models_dir()
    model = ModelDir(folder / name) if folder else None
    is_model = model is not None and model.manifest.is_file()
    known_runs = [run.name for run in runs.all_runs(output_dir)]
    if model is None or not is_model:
        if name in known_runs:
            return runs.existing_run(output_dir, name)
        raise InputError(_unknown(name, known_runs, folder))
    if name in known_runs:
        raise InputError(f"{name} is a run and a model; give a path: {model.path}, or that of the run")
    return model


def _at(path: Path) -> RunDir | ModelDir:
    """The run or model whose folder this is."""
    model, run = ModelDir(path), RunDir(path)
    if model.manifest.is_file():
        return model
    if run.config.is_file() and run.provenance.is_file():
        return run
    raise InputError(f"{path} holds neither a model.json nor the files of a run; check the path")


def _unknown(name: str, known_runs: list[str], folder: Path | None) -> str:
    """The message for a name of nothing."""
    models = [] if folder is None else sorted(path.parent.name for path in folder.glob("[!.]*/model.json"))
    if known_runs or models:
        return unknown_name("run or model", name, dict.fromkeys([*models, *known_runs]))
    return f"no run or model called {name!r}; train one with saltseg train, or give the path of a model's folder"
