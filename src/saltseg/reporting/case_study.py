"""The case study's document: records of its variants in, Markdown out. No number in it is typed by hand.

`case_records.read` takes the records that scripts/study.py leaves, `render` fills docs/case_study.md.jinja,
`case_figures.draw` makes its pictures. What has no record yet is left out and named.
"""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from saltseg import config, studies
from saltseg.core.postprocess import HALF
from saltseg.reporting import case_curves, case_networks, case_pixels, case_tables
from saltseg.reporting.case_data import Dataset
from saltseg.reporting.case_records import Study, partner
from saltseg.reporting.case_tiles import Predicted
from saltseg.studies import BASE


def render(
    study: Study,
    dataset: Dataset | None,
    predicted: Sequence[Predicted],
    pictures: Collection[str],
    template: Path,
) -> str:
    """The document as Markdown. pictures: names of those that lie in case_study/ beside it; others are not shown.

    predicted: what the picture of predicted tiles shows. template: docs/case_study.md.jinja.
    """
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    words = ("percent", "points", "price", "signed", "verdict")
    environment.filters |= {name: getattr(case_tables, name) for name in words}

    def configured(variant: str) -> config.Config:
        return studies.settings(variant, study.budget, 0)

    def picture(name: str, description: str) -> str:
        return f"![{description}](case_study/{name}.png)" if name in pictures else ""

    curves = {variant: case_pixels.threshold_curve(study, variant) for variant in study.records}
    text = environment.from_string(template.read_text(encoding="utf-8")).render(
        study=study,
        dataset=dataset,
        base=study.records[BASE][0],
        everything=[entry for entries in study.records.values() for entry in entries],
        settings=configured(BASE),
        configured=configured,
        case_study=config.Config(),
        questions=studies.QUESTIONS,
        variants=studies.VARIANTS,
        partner=partner,
        full_resolution=[name for name in studies.VARIANTS if configured(name).model.architecture == "fcn"],
        networks=case_networks.networks(study.budget),
        shapes=case_networks.shapes(),
        curves=curves,
        calibrations={variant: case_pixels.calibration(curve) for variant, curve in curves.items()},
        distances={variant: case_pixels.boundary_errors(study, variant) for variant in study.records},
        ratios=case_pixels.RATIOS,
        calibrated=case_pixels.calibrated,
        half=HALF.threshold,
        near=case_pixels.NEAR,
        far=case_pixels.FAR,
        noise_tuned=study.training_noise("cross_fitted"),
        noise_half=study.training_noise("at_half"),
        stops=case_curves.stops,
        descents=case_curves.descents,
        predicted=predicted,
        best=lambda variants: max(variants, key=lambda variant: study.worth[variant].cross_fitted),
        picture=picture,
        table=lambda variants: case_tables.table(study, variants),
        before_and_after=lambda variants: case_tables.before_and_after(study, variants),
        answers=lambda variants, brief=False: case_tables.answers(study, variants, brief),
        missing=lambda variants: case_tables.missing(study, variants),
    )
    return re.sub(r"[ \t]*\n{3,}", "\n\n", text)  # what is left out leaves empty lines
