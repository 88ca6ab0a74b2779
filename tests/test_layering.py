"""The ladder of imports of CONTRIBUTING.md, kept by reading every module's syntax tree."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "saltseg"

# A layer may import from itself and from the layers below it. data and models stand on one step and never meet.
BELOW = {
    "base": set(),
    "core": {"base"},
    "data": {"base", "core"},
    "models": {"base", "core"},
    "inference": {"base", "core", "data", "models"},
    "training": {"base", "core", "data", "models", "inference"},
    "reporting": {"base", "core", "data", "models", "inference", "training"},
    "cli": {"base"},
    "processes": {"base", "cli"},
}
BASE = {"errors", "config", "config_rules", "experiments", "studies", "ladders", "runs", "storage", "__init__"}
MODULES = sorted(SOURCE.rglob("*.py"))


def layer(parts: tuple[str, ...]) -> str:
    if not parts or parts[0] in BASE:
        return "base"
    return parts[0]


def imports(path: Path) -> set[str]:
    """Dotted names of everything a file imports, at any depth (also inside functions)."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_run_downwards_only(path: Path) -> None:
    own = layer(path.relative_to(SOURCE).with_suffix("").parts)
    for name in imports(path):
        if name.split(".")[0] == "saltseg":
            other = layer(tuple(name.split(".")[1:]))
            if other not in BELOW:  # `from saltseg import __version__`
                other = "base"
            assert other == own or other in BELOW[own], f"{own} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_only_the_zoo_knows_smp_and_the_lower_layers_no_torch(path: Path) -> None:
    relative = path.relative_to(SOURCE)
    roots = {name.split(".")[0] for name in imports(path)}
    if relative not in {Path("models/zoo.py"), Path("models/weight_sources.py")}:
        assert "segmentation_models_pytorch" not in roots
    if layer(relative.with_suffix("").parts) in {"base", "core"}:
        assert not roots & {"torch", "lightning", "pandas", "cv2", "albumentations", "matplotlib"}


def test_the_checker_sees_a_planted_fault(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("def f():\n    from saltseg.training import fold\n")
    assert imports(planted) == {"saltseg.training.fold"}


@pytest.mark.parametrize(
    "module", ["saltseg.core.rle", "saltseg.core.thresholds", "saltseg.runs", "saltseg.experiments"]
)
def test_core_starts_without_the_heavy_libraries(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'pandas', 'scipy', 'cv2', 'lightning'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
