"""The card of a released model, README.md in its folder: written from its manifest and the records of its run."""

from typing import Any

from saltseg.config import Config
from saltseg.models import precision
from saltseg.postprocessing.parameters import Postprocessing
from saltseg.releases import ModelDir
from saltseg.reporting import caveats, page, run_summary
from saltseg.runs import RunDir


def render(run: RunDir, model: ModelDir, manifest: dict[str, Any]) -> str:
    """The card as Markdown.

    Args:
        run: that was released.
        model: its folder, with the weights in it.
        manifest: what model.json says.
    """
    settings = run.read_config()
    return page.render(
        "model_card.md.j2",
        model=manifest,
        settings=settings,
        precision=precision.trained_config(run).train.precision,
        network=describe_network(settings),
        megabytes=sum((model.path / name).stat().st_size for name in manifest["weights"]) / 1e6,
        commit=run.read_provenance().get("git_commit") or "unknown",
        postprocessing=caveats.describe_postprocessing(Postprocessing.from_dict(manifest["postprocessing"])),
        caveats=caveats.of_fold(run_summary.read(run), manifest["fold"]),
    )


def describe_network(settings: Config) -> str:
    """Architecture and encoder in words."""
    encoder = getattr(settings.model, "encoder", "")
    extra = ", ".join(settings.model.extra_channels)
    depth = f", with the channels {extra}" if extra else ""
    return f"{settings.model.architecture}{f' on {encoder}' if encoder else ''}{depth}"
