"""The verb release: a trained network as a folder that others can predict with."""

from pathlib import Path
from typing import Annotated

from typer import Option

from saltseg.cli.command import INPUT, OUTPUT, InputDir, OutputDir, Result, Run, verb
from saltseg.errors import InputError


@verb("release")
def release(
    run: Run,
    name: Annotated[str, Option(help="of the model, a folder under models/")],
    fold: Annotated[
        int | None, Option(metavar="K", help="whose network is released (default: the first)", show_default=False)
    ] = None,
    license_: Annotated[
        str | None,
        Option(
            "--license",
            metavar="TEXT",
            help="who may use the weights for what; for data that are neither simulated nor the competition's",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        Path | None, Option(metavar="DIR", help="where the folder is made (default: models)", show_default=False)
    ] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="replace the model of that name")] = False,
    input_dir: InputDir = INPUT,
    output_dir: OutputDir = OUTPUT,
) -> Result:
    """Make a model that others can predict with from one fold of a run: models/NAME, at most 10 MB.

      saltseg release tgs-recipe_lite0 --name my-model
      saltseg release mine-recipe_lite0 --name my-model --fold 2 --license "CC BY 4.0"

    The weights of convolutions are stored in half precision. What this changes is measured on the tiles that the fold
    did not train on, and so is the speed. The model card (README.md) has these numbers, the score, the license and the
    limits; model.json has the hash of each file. Nothing is typed: scores come from the run's own files.

    Weights trained on simulated tiles alone are under this project's license; those that learned from the competition's
    tiles are for research and education. For other data say it with --license; for images without labels that are not
    the competition's, too.
    """
    from saltseg import releases, runs
    from saltseg.pipeline import release, workspace
    from saltseg.reporting import model_card

    runs.check_name(name)
    folder = to or releases.models_dir()
    if folder is None:
        raise InputError("this package is in no checkout, so there is no folder models; give one with --to DIR")
    place = workspace.Workspace(input_dir, output_dir)
    source = runs.existing_run(output_dir, run)
    manifest = release.release(
        source, place, folder / name, model_card.render, fold=fold, terms=license_, overwrite=overwrite
    )
    size = sum((folder / name / file).stat().st_size for file in manifest["weights"])
    difference = manifest["half_precision"]["difference"]["postprocessed"]
    low, high = difference["interval"]
    print(f"{folder / name}: {size / 1e6:.1f} MB, license: {manifest['license']}")
    print(f"half precision changes the score by {difference['mean']:+.4f} ({low:+.4f} to {high:+.4f}, paired)")
    print(f"card: {folder / name / 'README.md'}")
    return ["git", "add", str(folder / name)]
