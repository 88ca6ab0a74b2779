"""Imports run downwards, checked on every module's syntax tree. ``python tests/test_layering.py`` prints the table."""

import ast
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "saltseg"

# From top to bottom: packages and modules of a layer → what they hold. Each may import what stands below it. In the
# lowest layer they import each other, too.
LAYERS = {
    "__main__": "",
    "cli": "the command: options, errors, exit codes",
    "studies": "sets of configurations compared with a reference; the case study",
    "viewer": "the page of `saltseg view`",
    "reporting": "the page about a run, the leaderboard, charts",
    "pipeline": "what happens to a run after training: collate, tune, submit, blend, compare, release, pseudo-labels",
    "training": "Lightning module and trainer, one fold, one run, pretraining",
    "inference": "prediction, test-time augmentation",
    "workers": "units of work side by side: processes here, or a Dask cluster",
    "provenance": "where a run came from, what it was trained on",
    "synthetic": "the seismic simulator",
    "data models": "datasets, folds, transforms, submissions; networks, losses, weights",
    "postprocessing": "probabilities to masks: parameters, threshold search, selection of steps, blend weights",
    "predictions": "arrays with the ids they belong to",
    "metrics seismic": "mean average precision, run-length encoding, bootstrap; SEG-Y volumes",
    "config config_schema experiments runs releases schemas io yaml12 errors __init__": (
        "settings, files of a run and of a model, atomic files"
    ),
}
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names.split()}
BASE = len(LAYERS) - 1
TORCH_FREE = {"postprocessing", "predictions", "metrics", "seismic", *list(LAYERS)[BASE].split()}
HEAVY = {"torch", "lightning", "pandas", "cv2", "albumentations", "matplotlib", "segmentation_models_pytorch", "timm"}
ZOO = {"models.zoo", "models.pretrained_sources"}  # all others get smp's networks from them


def module_name(path: Path) -> str:
    """``data.folds`` for src/saltseg/data/folds.py; ``data`` for its ``__init__``."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


@cache
def imports(path: Path, inside: bool = True) -> frozenset[str]:
    """Dotted names of everything that a file imports; inside: of functions and conditions, too."""
    names, tree = set(), ast.parse(path.read_text())
    for node in ast.walk(tree) if inside else tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def own_imports(names: Iterable[str]) -> set[str]:
    """Modules of saltseg among imported names, as keys of `MODULES`."""
    found = set()
    for name in names:
        parts = name.split(".")
        if parts[0] == "saltseg":
            longest = (".".join(parts[1:end]) for end in range(len(parts), 1, -1))
            found.add(next((module for module in longest if module in MODULES), "__init__"))
    return found


FRONT_DOOR = {"pipeline.model"}  # `saltseg.load` imports it when it is called; everything imports ``__init__``


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downwards(module: str) -> None:
    if module == "__init__":
        assert own_imports(imports(MODULES[module])) == FRONT_DOOR
        return
    layer = module.split(".")[0]
    for other in own_imports(imports(MODULES[module])):
        below = other.split(".")[0]
        same = below == layer or RANK[layer] == RANK[below] == BASE
        assert same or RANK[layer] < RANK[below], f"{module} imports {other}"


def test_no_modules_import_each_other_in_a_circle_when_they_are_imported() -> None:
    graph = {module: own_imports(imports(path, inside=False)) - {module} for module, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("module", MODULES)
def test_only_the_zoo_imports_smp_and_the_numeric_core_no_torch(module: str) -> None:
    roots = {name.split(".")[0] for name in imports(MODULES[module])}
    assert "segmentation_models_pytorch" not in roots or module in ZOO
    if module.split(".")[0] in TORCH_FREE:
        assert not roots & HEAVY


def test_the_numeric_core_starts_without_heavy_libraries() -> None:
    core = [f"saltseg.{module}" for module in MODULES if module.split(".")[0] in TORCH_FREE]
    assert {"saltseg.metrics.rle", "saltseg.config", "saltseg.runs", "saltseg.predictions"} <= set(core)
    code = f"import importlib, sys; [importlib.import_module(m) for m in {core}]; print({HEAVY} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_planted_faults_are_seen(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("def f():\n    from saltseg.training import fold\n    from saltseg.runs import RunDir\n")
    assert own_imports(imports(planted)) == {"training.fold", "runs"}
    assert own_imports(imports(planted, inside=False)) == set()


def table() -> str:
    """The layers as Markdown."""
    rows = [
        f"| {', '.join(f'`{name}`' for name in names.split() if not name.startswith('__'))} | {what} |"
        for names, what in LAYERS.items()
        if what
    ]
    return "\n".join(["| imports only from rows below | what it holds |", "|---|---|", *rows])


if __name__ == "__main__":
    print(table())
