"""The verb that takes a run or a model to where saltseg is not: export."""

from pathlib import Path
from typing import Annotated

from typer import Option

from saltseg.cli.command import OUTPUT, OutputDir, Result, RunOrModel, verb


@verb("export")
def export(
    source: RunOrModel,
    tta: Annotated[
        str | None, Option(metavar="A,B", help="other test-time augmentation than the run's own", show_default=False)
    ] = None,
    to: Annotated[
        Path | None, Option(metavar="DIR", help="new folder (default: output/exports/RUN)", show_default=False)
    ] = None,
    terms: Annotated[
        str | None,
        Option("--license", metavar="TEXT", help="of a run on other data than simulated or TGS", show_default=False),
    ] = None,
    output_dir: OutputDir = OUTPUT,
) -> Result:
    """Write the networks of a run or a model as ONNX, to predict without torch and without saltseg.

      saltseg export tgs-unet
      saltseg export tgs-unet --tta identity --to my_network    half the work

    Writes network.onnx, which maps tiles of 101x101 gray values (uint8) to probabilities of salt, export.json with the
    post-processing and the origin, and example.py, which needs numpy and onnxruntime only. The mean over the finished
    folds and over the views is inside the graph. The graph is compared with torch before it is kept.
    """
    from saltseg import releases
    from saltseg.pipeline import export as exporting

    found = releases.find(source, output_dir)
    views = tuple(tta.split(",")) if tta else None
    target = to or output_dir / "exports" / found.name
    print("converting: about ten seconds a network")
    described = exporting.export(found, target, output_dir, tta=views, terms=terms)
    print(f"largest difference to torch: {described['largest_difference']:.1e}; license: {described['license']}")
    print(f"written: {target}; to try it: python {target / 'example.py'} tiles.npy")
    return 0
