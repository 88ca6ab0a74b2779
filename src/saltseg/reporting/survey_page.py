"""The page about a predicted survey: how it was predicted, what to be careful about, and slices of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from saltseg.pipeline.survey import Prediction
from saltseg.pipeline.survey_slices import Slice
from saltseg.postprocessing.parameters import Postprocessing
from saltseg.reporting import caveats, page
from saltseg.reporting.style import MUTED, SALT, VERMILION, new_figure, png
from saltseg.seismic.headers import ORDER_NAMES
from saltseg.seismic.scaling import WARN_DISTANCE

WIDTH, PANEL_HEIGHT = 7.5, 3.2  # inches, of a slice


def render(prediction: Prediction) -> str:
    """The page as HTML."""
    record, layout = prediction.record, prediction.survey.layout
    facts = {
        "survey": f"{layout.path.name}: {prediction.survey.geometry.reason}",
        "traces": f"{layout.traces:,} of {layout.samples:,} samples",
        "format": f"{layout.sample_format.name}, {ORDER_NAMES[layout.byte_order]}",
        "run": record["run"],
        "sections along": " and ".join(f"{name}s" for name in record["directions"]),
        "gray scale": f"{record['amplitude_center']:.4g} ± {record['amplitude_half_range']:.4g} (percentile "
        f"{record['clip_percentile']:g} of |amplitude|), polarity {record['polarity']}",
        "post-processing": caveats.describe_postprocessing(Postprocessing.from_dict(record["postprocessing"])),
    }
    return page.render(
        "survey.html.j2",
        name=layout.path.name,
        record=record,
        facts=facts,
        warnings=warnings(record),
        reference=reference(record),
        pictures=[(section.title, draw(section)) for section in prediction.slices],
    )


def warnings(record: Mapping[str, Any]) -> list[str]:
    """What speaks against trusting a prediction; record: see `saltseg.pipeline.survey_files.Record`."""
    found = [f"{text[:1].upper()}{text[1:]}." for text in record.get("warnings", ())]
    if record["histogram_distance"] > WARN_DISTANCE:
        found.append(
            f"The gray levels of this survey are {record['histogram_distance']:.0f} levels away from those of "
            f"{reference(record)}; over {WARN_DISTANCE:.0f} a prediction deserves no trust. Try another clip "
            "percentile, or train on lines of this survey (saltseg lines)."
        )
    return found


def reference(record: Mapping[str, Any]) -> str:
    """What the gray levels of a survey were compared with; older records do not say."""
    missing = "the training tiles are missing or have changed"
    return {
        "training": "the tiles that the run was trained on",
        "simulated": f"simulated tiles, since {missing}",
        "": f"the tiles that the run was trained on, or of simulated ones where {missing}",
    }[record.get("histogram_reference", "")]


def draw(section: Slice) -> bytes:
    """Seismic with the outline of the salt above, probability below; PNG bytes."""
    figure = new_figure((WIDTH, 2 * PANEL_HEIGHT))
    upper, lower = figure.subplots(2, 1, sharex=True)
    left, right, top, bottom = section.extent
    extent = (left, right, bottom, top)
    for axes, title, values, cmap, highest in (
        (upper, "seismic, salt outlined", section.image, "gray", 255),
        (lower, "probability of salt, white 0 to blue 1", section.probability / 255, SALT, 1),
    ):
        visible = np.ma.masked_array(values, ~section.present)
        axes.imshow(visible, cmap, vmin=0, vmax=highest, extent=extent, aspect="auto", interpolation="nearest")
        axes.set_title(title, fontsize=9, color=MUTED, loc="left")
        axes.set_ylabel(section.y_label, fontsize=9)
        axes.tick_params(labelsize=8, length=3, colors=MUTED)
        axes.spines[:].set(color="#b8c1ca", linewidth=0.7)
    lower.set_xlabel(section.x_label, fontsize=9)
    if 0 < section.salt.mean() < 1 and min(section.salt.shape) > 1:
        upper.contour(section.salt, levels=[0.5], colors=VERMILION, linewidths=1.4, extent=extent, origin="upper")
    return png(figure)
