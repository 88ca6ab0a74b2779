"""All pictures of the case study's document: what is explained is drawn, what was measured is charted. PNG bytes."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from saltseg.reporting import (
    case_data_figures,
    case_diagram,
    case_network_figures,
    case_networks,
    case_pixel_figures,
    case_tiles,
    case_training_figures,
    gains,
)
from saltseg.reporting.case_data import Dataset
from saltseg.reporting.case_pixels import boundary_errors, threshold_curve
from saltseg.reporting.case_records import Study
from saltseg.reporting.case_tiles import Predicted
from saltseg.reporting.style import png
from saltseg.studies import BASE, PLATEAU, QUESTIONS

POOLING, SKIPS, NECESSARY, GAP, IMAGES, IMPROVES = QUESTIONS.values()


def draw(study: Study, dataset: Dataset | None, predicted: Sequence[Predicted]) -> dict[str, bytes]:
    """Every picture that the records, the dataset and the predicted tiles allow: name in the document → PNG bytes."""
    figures = explained(study.budget) | charted(study)
    if predicted:
        figures["predicted"] = case_tiles.figure(predicted)
    if dataset is not None:
        figures["coverage"] = case_data_figures.coverage(dataset)
        if dataset.depth is not None:
            figures["depth"] = case_data_figures.depth(dataset)
    pictures = {name: png(figure) for name, figure in figures.items()}
    for name, variants in (("pooling_gains", POOLING), ("skip_gains", SKIPS), ("improve_gains", IMPROVES)):
        compared = [study.worth[variant] for variant in study.measured(variants)]
        if len(compared) > 1:
            pictures[name] = gains.chart(compared, study.noise)
    return pictures


def explained(budget: str) -> dict[str, Figure]:
    """What needs no record."""
    return {
        "tiles": case_data_figures.tiles(),
        "unet": case_diagram.diagram(),
        "transposed": case_network_figures.transposed(*case_networks.transposed_example()),
        "pooling": case_network_figures.pooling(),
        "fields": case_network_figures.fields(case_networks.networks(budget)),
    }


def charted(study: Study) -> dict[str, Figure]:
    """What the records hold; a line through one point is left out."""
    base, known = threshold_curve(study, BASE), study.measured
    improves = {variant: threshold_curve(study, variant) for variant in known(IMPROVES)}
    figures = {
        "curves": case_training_figures.training_curves(study.records[BASE][0]),
        "gap": case_training_figures.gap(study, known(GAP)),
        "thresholds": case_pixel_figures.threshold_curves(base),
        "costs": case_pixel_figures.costs(base),
        "precision_recall": case_pixel_figures.precision_recall(improves),
        "calibration": case_pixel_figures.calibration(improves),
        "boundary": case_pixel_figures.boundary({variant: boundary_errors(study, variant) for variant in known(SKIPS)}),
    }
    for name, variant in (("overfitting", "images_eighth"), ("plateau", PLATEAU)):
        if variant in study.records:
            figures[name] = case_training_figures.training_curves(study.records[variant][0])
    if len(known(IMAGES)) > 1:
        figures["images"] = case_training_figures.images(study, known(IMAGES))
    if len(known(NECESSARY)) > 1:
        figures["operations"] = case_training_figures.score_by_operations(study, known(NECESSARY))
    return figures
