"""The case study's document: records of its variants in, Markdown and pictures out. No number in it is typed by hand.

`read` takes the records that scripts/study.py leaves and pairs each variant with what it is compared with, `render`
fills docs/case_study.md.jinja, case_figures.py draws. What has no record yet is left out and named.
"""

import copy
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, StrictUndefined
from torch import nn

from saltseg import config, studies
from saltseg.core import metric
from saltseg.core.postprocess import HALF
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.inference import levers
from saltseg.inference.levers import Worth
from saltseg.inference.study import operations
from saltseg.models import zoo
from saltseg.models.fcn import FullResolutionFCN
from saltseg.models.unet import UNet, up_convolution
from saltseg.studies import BASE

PARTNERS = {"fcn_same_parameters": "narrow", "fcn_same_parameters_dilated": "narrow"}  # all others: base
NEEDED = (
    "variant", "budget", "seed", "changes", "folds", "n_train", "n", "dataset_hash", "tenths_at_half",
    "tenths_cross_fitted", "thresholds", "pixels", "true_pixels", "images_with_salt", "boundary", "parameters",
    "operations", "milliseconds", "seconds_per_epoch", "peak_memory_mb", "curves", "train", "valid", "git_commit",
    "machine",
)  # fmt: skip
RATIOS = (1 / 10, 1 / 3, 1.0, 3.0, 10.0)  # cost of a salt pixel missed, in salt pixels invented
NEAR, FAR = 2, 10  # pixels from the true boundary
COLUMNS = (
    "variant", "log-loss", "pixel accuracy", "score at 0.5", "gain [95 %]", "score, tuned rule", "gain [95 %]",
    "parameters", "GFLOP", "ms / image", "s / epoch", "MiB",
)  # fmt: skip


@dataclass(frozen=True)
class Study:
    """Records of one dataset and budget: variant → its records in the order of seeds, and what it is worth.

    worth: `levers.Worth`, its gains against `PARTNERS` or base; without gains where those were trained with other
    seeds or not at all. noise: see `levers.seed_noise`.
    """

    data: str
    budget: str
    records: Mapping[str, Sequence[Mapping[str, Any]]]
    worth: Mapping[str, Worth]
    noise: float | None

    def measured(self, variants: Sequence[str]) -> list[str]:
        """Those of ``variants`` that have a record."""
        return [variant for variant in variants if variant in self.records]

    def sigma(self, variant: str) -> float | None:
        """Standard deviation of the variant's mean gain from seed to seed, pooled over all variants, if known."""
        noise = levers.gain_noise(list(self.worth.values()))
        return None if noise is None else noise / len(self.worth[variant].by_seed) ** 0.5


def read(folder: Path, data: str, budget: str) -> Study:
    """The records of ``folder``, checked and paired.

    Raises InputError: no record at all or none of base, a damaged record, one of another study, or records that were
    not judged on the same images.
    """
    command = f"python scripts/study.py --data {data} --budget {budget}"
    found = levers.read(folder)
    if not found:
        raise InputError(f"no records in {folder}; make them with: {command}")
    for entry in found:
        if lacking := [key for key in NEEDED if key not in entry]:
            raise InputError(f"a record in {folder} lacks {lacking[0]!r}; delete it and run again: {command}")
        variant = entry["variant"]
        if variant not in studies.VARIANTS:
            raise InputError(f"{config.unknown('variant', variant, studies.VARIANTS)} Remove its record from {folder}")
        if entry["budget"] != budget or entry["changes"] != studies.changes(variant, budget):
            raise InputError(
                f"the record {variant}-{entry['seed']} in {folder} is of budget {entry['budget']!r} and changes "
                f"{entry['changes']}, not what studies.py says now; delete it and run again: {command}"
            )
        if (entry["n"], entry["folds"]) != (found[0]["n"], found[0]["folds"]):
            raise InputError(
                f"{variant}-{entry['seed']} was judged on {entry['n']} images of folds {entry['folds']}, "
                f"{found[0]['variant']} on {found[0]['n']} of {found[0]['folds']}; remove the odd ones from {folder}"
            )
    records = {
        variant: sorted((entry for entry in found if entry["variant"] == variant), key=lambda entry: entry["seed"])
        for variant in studies.VARIANTS
    }
    records = {variant: entries for variant, entries in records.items() if entries}
    if BASE not in records:
        raise InputError(f"no record of {BASE!r} in {folder}, with which all are compared: {command} --only {BASE}")
    noise = levers.seed_noise([{**entry, "lever": entry["variant"]} for entry in found])
    return Study(data, budget, records, {variant: _worth(records, variant) for variant in records}, noise)


def _worth(records: Mapping[str, Sequence[Mapping[str, Any]]], variant: str) -> Worth:
    partner = PARTNERS.get(variant, BASE)
    shared = {entry["seed"] for entry in records[variant]} & {entry["seed"] for entry in records.get(partner, ())}
    names = {partner, variant} if shared else {variant}  # without a partner, levers.table knows it as a baseline
    alike = {"experiment": "study", "settings": {}}  # `read` has seen to it
    found = levers.table([
        {"device": "", **entry, **alike, "lever": levers.BASE if name == partner or not shared else name}
        for name in names
        for entry in records[name]
    ])  # fmt: skip
    return replace(found[-1], lever=variant)


# ---------------------------------------------------------------- from numbers to words


def verdict(gain: tuple[float, float, float] | None, sigma: float | None = None) -> str:
    """A paired gain (difference, low, high) in words. sigma: its standard deviation between trainings, if known."""
    if gain is None:
        return "not compared: no training of what it is compared with has the same seed"
    difference, low, high = gain
    if low <= 0 <= high:
        return f"no detectable difference: {interval(gain)}"
    doubt = "" if sigma is None or abs(difference) >= 2 * sigma else ", within two sigma of the noise between seeds"
    return f"{'better' if low > 0 else 'worse'} by {abs(difference):.3f} {_bounds(low, high)}{doubt}"


def interval(gain: tuple[float, float, float] | None) -> str:
    """``+0.012 [−0.003, +0.027]``."""
    return "" if gain is None else f"{signed(gain[0])} {_bounds(*gain[1:])}"


def signed(value: float) -> str:
    """Three digits with a sign."""
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def points(share: float) -> str:
    """A difference of shares in percentage points."""
    number = f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")
    return f"{number} percentage points"


def _bounds(low: float, high: float) -> str:
    return f"[{signed(low)}, {signed(high)}]"


def percent(share: float | None) -> str:
    """A share as a percentage; a dash for what is not defined."""
    return "–" if share is None or not np.isfinite(share) else f"{100 * share:.1f} %"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (columns, ["---"] * len(columns), *rows))


def table(study: Study, variants: Sequence[str]) -> str:
    """One line for each of ``variants`` that has a record; gains are against base or what the line says."""
    rows = []
    for variant in study.measured(variants):
        worth, entries = study.worth[variant], study.records[variant]
        against = f" (against `{PARTNERS[variant]}`)" if variant in PARTNERS else ""
        first, memory = entries[0], max(entry["peak_memory_mb"] for entry in entries)
        rows.append((
            f"`{variant}`{against}", f"{worth.log_loss:.4f}", percent(_mean(entries, "pixel_accuracy")),
            f"{worth.at_half:.3f}", interval(worth.gain_at_half),
            f"{worth.cross_fitted:.3f}", interval(worth.gain_cross_fitted),
            f"{first['parameters']:,}", f"{first['operations'] / 1e9:.3f}",
            f"{_mean(entries, 'milliseconds'):.2f}", f"{_mean(entries, 'seconds_per_epoch'):.1f}", f"{memory:,}",
        ))  # fmt: skip
    return markdown(COLUMNS, rows)


def _mean(entries: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(np.mean([entry[key] for entry in entries]))


def answers(study: Study, variants: Sequence[str], brief: bool = False) -> str:
    """A line of verdicts for each measured variant that is compared with another; brief: on the tuned rule alone."""
    lines = []
    for variant in study.measured(variants):
        worth = study.worth[variant]
        if variant == BASE:
            continue
        found = verdict(worth.gain_cross_fitted, study.sigma(variant))
        if worth.gain_at_half is not None and not brief:
            found = f"with the tuned rule {found}; at 0.5 {verdict(worth.gain_at_half)}"
        lines.append(f"- `{variant}` against `{PARTNERS.get(variant, BASE)}`: {found}")
    return "\n".join(lines)


def sides(study: Study, variant: str, side: str) -> tuple[float, float]:
    """Pixel accuracy and score, both at 0.5, on the ``train`` or the ``valid`` images, mean over seeds."""
    entries = [entry[side] for entry in study.records[variant]]
    return _mean(entries, "pixel_accuracy"), _mean(entries, "score_at_half")


def missing(study: Study, variants: Sequence[str]) -> str:
    """A sentence that names those of ``variants`` without a record; empty when there are none."""
    lacking = [f"`{variant}`" for variant in variants if variant not in study.records]
    return f"*Not measured yet: {', '.join(lacking)}.*" if lacking else ""


# ---------------------------------------------------------------- thresholds


@dataclass(frozen=True)
class Curve:
    """Totals over images and seeds at "salt where the probability is at least t 255ths", t = 0 … 255.

    intersection, predicted: pixels, int64 (256,). missed, invented: images with salt of which none is predicted, and
    without salt of which some is, int64 (256,). pixels, true_pixels, with_salt, without_salt: how many there are.
    """

    intersection: np.ndarray
    predicted: np.ndarray
    missed: np.ndarray
    invented: np.ndarray
    pixels: int
    true_pixels: int
    with_salt: int
    without_salt: int

    @property
    def precision(self) -> np.ndarray:
        """Share of the marked pixels that is salt, float64 (256,); 1 where none is marked."""
        return np.divide(self.intersection, self.predicted, out=np.ones(256), where=self.predicted > 0)

    @property
    def recall(self) -> np.ndarray:
        """Share of the salt pixels that is marked, float64 (256,); NaN without any salt."""
        return self.intersection / self.true_pixels if self.true_pixels else np.full(256, np.nan)

    @property
    def missed_share(self) -> np.ndarray:
        """Share of the images with salt in which none is marked, float64 (256,)."""
        return self.missed / self.with_salt if self.with_salt else np.full(256, np.nan)

    @property
    def invented_share(self) -> np.ndarray:
        """Share of the images without salt in which some is marked, float64 (256,)."""
        return self.invented / self.without_salt if self.without_salt else np.full(256, np.nan)

    @property
    def area(self) -> float:
        """Area under precision against recall, in [0, 1]."""
        return float(np.sum((self.recall - np.append(self.recall[1:], 0)) * self.precision))

    def precision_at(self, recall: float) -> float:
        """Precision where so much of the salt is found; between two thresholds, pixels are taken at random.

        recall: in [0, 1]; NaN for 0. (Davis and Goadrich 2006: counts are interpolated, not precisions.)
        """
        if not recall > 0:
            return float("nan")
        wanted = recall * self.true_pixels
        above = int(np.flatnonzero(self.intersection >= wanted - 1e-9)[-1])
        hits, marked = (np.append(counts, 0) for counts in (self.intersection, self.predicted))
        share = (hits[above] - wanted) / max(hits[above] - hits[above + 1], 1)
        return float(wanted / (marked[above] - share * (marked[above] - marked[above + 1])))

    def cost(self, ratio: float) -> np.ndarray:
        """Mean cost of 1,000 pixels, float64 (256,): a pixel invented costs 1, one of salt missed ``ratio``."""
        wrong = ratio * (self.true_pixels - self.intersection) + self.predicted - self.intersection
        return 1000 * wrong / self.pixels


def curve(study: Study, variant: str) -> Curve:
    """The `Curve` of a measured variant, its seeds pooled."""
    entries = study.records[variant]

    def counts(key: str) -> np.ndarray:
        return np.array([entry["thresholds"][key] for entry in entries], np.int64).sum(axis=0)

    def total(key: str) -> int:
        return sum(entry[key] for entry in entries)

    salt = total("images_with_salt")
    return Curve(
        intersection=counts("intersection"),
        predicted=counts("predicted"),
        missed=counts("missed"),
        invented=counts("invented"),
        pixels=total("pixels"),
        true_pixels=total("true_pixels"),
        with_salt=salt,
        without_salt=total("n") - salt,
    )


def cheapest(found: Curve, ratio: float) -> int:
    """The threshold in 255ths that costs least on these very pixels; of equals the one nearest to 1 / (1 + ratio)."""
    cost = found.cost(ratio)
    equal = np.flatnonzero(cost == cost.min())
    return int(equal[np.abs(equal - 255 / (1 + ratio)).argmin()])


@dataclass(frozen=True)
class Calibration:
    """Ten bins of predicted probability, [0, 0.1) … [0.9, 1]: mean prediction, share of salt (NaN: no pixels), pixels.

    error: expected calibration error, the mean over pixels of |share of salt - mean prediction| of their bin.
    """

    predicted: np.ndarray
    salt: np.ndarray
    pixels: np.ndarray
    error: float


def calibration(found: Curve) -> Calibration:
    """How often pixels of each predicted probability are salt (Guo et al. 2017, arXiv 1706.04599)."""
    every, salt = (-np.diff(counts, append=0) for counts in (found.predicted, found.intersection))
    bins = np.minimum(np.arange(256) * 10 // 255, 9)
    pixels, hits, total = (np.bincount(bins, w, 10) for w in (every, salt, every * np.arange(256) / 255))
    with np.errstate(invalid="ignore"):
        predicted, share = total / pixels, hits / pixels
    return Calibration(predicted, share, pixels.astype(np.int64), float(np.abs(hits - total).sum() / pixels.sum()))


# ---------------------------------------------------------------- errors near and far from the boundary


@dataclass(frozen=True)
class ByDistance:
    """distance: int (D,), below 0 outside the salt; rate: share of wrong pixels at each; near, far: of the pixels
    within `NEAR` and beyond `FAR` of the true boundary; near_of_all: share of all errors that lie near."""

    distance: np.ndarray
    rate: np.ndarray
    near: float
    far: float
    near_of_all: float


def by_distance(study: Study, variant: str) -> ByDistance:
    """Errors at 0.5 of a measured variant by distance to the true boundary, its seeds pooled."""
    entries = [entry["boundary"] for entry in study.records[variant]]
    distance = np.array(entries[0]["distance"])
    pixels, errors = (np.sum([entry[key] for entry in entries], axis=0) for key in ("pixels", "errors"))

    def rate(where: np.ndarray) -> float:
        return float(errors[where].sum() / max(pixels[where].sum(), 1))

    near = np.abs(distance) <= NEAR
    near_of_all = float(errors[near].sum() / max(errors.sum(), 1))
    return ByDistance(distance, errors / np.maximum(pixels, 1), rate(near), rate(np.abs(distance) > FAR), near_of_all)


# ---------------------------------------------------------------- networks


def receptive_field(network: nn.Module, size: int, places: int = 16) -> int:
    """Pixels, height and width, of the part of the image that one output pixel can depend on.

    The gradient of an output in the middle of a size x size image, in a copy whose convolutions average, whose max
    pooling averages too and whose ReLU and batch norm let all pass: positive exactly on the field. In networks with
    strides it depends on the pixel; this is the largest of ``places`` neighbours on the diagonal.

    Raises InputError when the field reaches the image's edge, so that a larger one is needed.
    """
    probe = copy.deepcopy(network).double().eval()
    for parent in list(probe.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(module.kernel_size, module.stride, module.padding))
            elif isinstance(module, nn.ReLU | nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())
            elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    image = torch.zeros(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    output = probe(image)
    extents = []
    for place in range((size - places) // 2, (size + places) // 2):
        (gradient,) = torch.autograd.grad(output[0, 0, place, place], image, retain_graph=True)
        for axis in (0, 1):
            seen = gradient[0, 0].sum(dim=axis).nonzero().flatten()
            if int(seen[0]) == 0 or int(seen[-1]) == size - 1:
                raise InputError(f"the receptive field reaches the edge of {size} pixels; give a larger size")
            extents.append(int(seen[-1] - seen[0]) + 1)
    return max(extents)


def shapes(size: int = 128) -> dict[str, tuple[int, int, int]]:
    """Channels, height and width behind each block of the case study's U-Net, for one image of size x size."""
    network, found = UNet().eval(), {}

    def note(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: found.update({name: tuple(output.shape[1:])})

    for name, module in network.named_children():
        module.register_forward_hook(note(name))
    with torch.no_grad():
        network(torch.zeros(1, 1, size, size))
    return found


def transposed() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The U-Net's up-convolution by numbers: input (2, 2), a kernel (3, 3), output (4, 4), all float32."""
    layer = up_convolution(1, 1)
    kernel = torch.tensor([[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]])
    image = torch.tensor([[4.0, 8.0], [12.0, 16.0]])
    with torch.no_grad():
        layer.weight.copy_(kernel)
        nn.init.constant_(layer.bias, 0)  # type: ignore[arg-type]
        return image.numpy(), kernel.numpy(), layer(image[None, None])[0, 0].numpy()


@dataclass(frozen=True)
class Networks:
    """Facts about networks that no training is needed for.

    parameters, gflop: of the case study's U-Net, on an image of 128x128. field: its receptive field. plain, dilated:
    those of the full-resolution networks. size: pixels of the study's images, height and width. equal_filters,
    equal_operations: width of a full-resolution network with the U-Net's parameters, and its operations as a
    multiple of the U-Net's.
    """

    parameters: int
    gflop: float
    field: int
    plain: int
    dilated: int
    size: int
    equal_filters: int
    equal_operations: float


@cache
def networks(budget: str) -> Networks:
    """Built, counted and probed on the spot; only `Networks.size` depends on the budget."""
    settings = {name: studies.settings(name, budget, 0) for name in (BASE, "fcn_same_operations_dilated")}
    layers, dilated = (tuple(settings[name].model.dilations) for name in settings)
    unet, n = UNet(), len(layers)
    parameters = zoo.parameters(unet)
    # The sum in FullResolutionFCN's docstring, for one input channel.
    filters = min(range(1, 1000), key=lambda f: abs(9 * f * (1 + (n - 1) * f) + 3 * n * f + f + 1 - parameters))
    small = torch.zeros(1, 1, 32, 32)  # operations grow with the pixels in both, so their ratio is that of any size
    return Networks(
        parameters=parameters,
        gflop=operations(unet, torch.zeros(1, 1, 128, 128)) / 1e9,
        field=receptive_field(UNet(filters=1), 256),
        plain=FullResolutionFCN(1, 1, layers).receptive_field,
        dilated=FullResolutionFCN(1, 1, dilated).receptive_field,
        size=settings[BASE].data.size,
        equal_filters=filters,
        equal_operations=operations(FullResolutionFCN(1, filters, layers), small) / operations(unet, small),
    )


# ---------------------------------------------------------------- the document


@dataclass(frozen=True)
class Dataset:
    """Aggregates of the labelled tiles, in one order. No tile itself: the real ones may not be shown.

    coverage: share of salt, float64 (N,). constant: tiles of one grey value, bool (N,). depth: z, int64 (N,), or None
    where the dataset has none. simulated: whether prepare_data.py made it.
    """

    coverage: np.ndarray
    constant: np.ndarray
    depth: np.ndarray | None
    simulated: bool

    def thirds(self) -> list[tuple[int, int, float]]:
        """Shallowest, middle and deepest third of the tiles: smallest z, largest z, share of them that holds salt."""
        assert self.depth is not None
        parts = np.array_split(np.argsort(self.depth, kind="stable"), 3)
        found = [(self.depth[part], self.coverage[part]) for part in parts]
        return [(int(z.min()), int(z.max()), float(np.mean(coverage > 0))) for z, coverage in found]


def read_dataset(root: Path, study: Study) -> Dataset | None:
    """The aggregates of a dataset in Kaggle's layout; None where it is not there or not what the records are about."""
    if not (root / "train.csv").is_file() or competition.fingerprint(root) != study.records[BASE][0]["dataset_hash"]:
        return None
    labelled = competition.read_train(root)
    depths = competition.read_depths(root)
    known = depths is not None and all(id_ in depths for id_ in labelled.ids)
    return Dataset(
        metric.coverage(labelled.masks),
        labelled.images.min(axis=(1, 2)) == labelled.images.max(axis=(1, 2)),
        np.array([depths[id_] for id_ in labelled.ids]) if depths is not None and known else None,
        competition.is_synthetic(root),
    )


def tuning(study: Study) -> tuple[float, float, float]:
    """What the tuned rule gives base over threshold 0.5, image by image, cross-fitted: (gain, low, high)."""
    keys = ("tenths_cross_fitted", "tenths_at_half")
    tenths = np.array([[[int(digit, 16) for digit in entry[key]] for key in keys] for entry in study.records[BASE]])
    difference = (tenths[:, 0] - tenths[:, 1]).mean(axis=0) / 10
    return float(difference.mean()), *metric.bootstrap_interval(difference)


def render(study: Study, dataset: Dataset | None, pictures: Collection[str], template: Path) -> str:
    """The document as Markdown. pictures: names of those that lie in case_study/ beside it; others are not shown.

    template: docs/case_study.md.jinja.
    """
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"percent": percent, "signed": signed, "verdict": verdict}

    def picture(name: str, description: str) -> str:
        return f"![{description}](case_study/{name}.png)" if name in pictures else ""

    curves = {variant: curve(study, variant) for variant in study.records}
    text = environment.from_string(template.read_text(encoding="utf-8")).render(
        study=study,
        dataset=dataset,
        base=study.records[BASE][0],
        settings=studies.settings(BASE, study.budget, 0),
        case_study=config.Config(),
        networks=networks(study.budget),
        shapes=shapes(),
        everything=[entry for entries in study.records.values() for entry in entries],
        configured=lambda variant: studies.settings(variant, study.budget, 0),
        questions=studies.QUESTIONS,
        variants=studies.VARIANTS,
        partners=PARTNERS,
        curves=curves,
        calibrations={variant: calibration(found) for variant, found in curves.items()},
        distances={variant: by_distance(study, variant) for variant in study.records},
        tuning=tuning(study),
        ratios=RATIOS,
        cheapest=cheapest,
        half=HALF.threshold,
        near=NEAR,
        far=FAR,
        mean=_mean,
        picture=picture,
        points=points,
        table=lambda variants: table(study, variants),
        answers=lambda variants, brief=False: answers(study, variants, brief),
        sides=lambda variant, side: sides(study, variant, side),
        missing=lambda variants: missing(study, variants),
    )
    return re.sub(r"[ \t]*\n{3,}", "\n\n", text)  # what is left out leaves empty lines
