"""Studies as data: variants of an experiment, budgets, and the configuration of each training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from saltseg import config, runs
from saltseg.config import Config
from saltseg.errors import InputError, unknown_name
from saltseg.experiments import EXPERIMENTS, named

Changes = Mapping[str, Any]  # {"train.epochs": 14}
Overrides = Changes | Callable[[Config], Changes]


@dataclass(frozen=True)
class Variant:
    """One training of a study, or the mean of others.

    Attributes:
        what: in words; "" where the overrides are plain enough.
        reference: the variant that its gain is measured over; "": the study's.
        overrides: settings that it changes, or a function of the base on the budget that returns them.
        experiment: trained instead of the study's base.
        group: of `Budget.groups`, whose settings it takes.
        teacher: the variant whose folds label further images for it.
        init_from: the variant whose weights each fold starts from.
        pretraining: "synthetic" or "masked": how the weights that it starts from are made.
        mean_teacher: whether the average of its own weights labels further images for it.
        members: the variants that it is the mean of.
    """

    what: str = ""
    reference: str = ""
    overrides: Overrides = field(default_factory=dict)
    experiment: str = ""
    group: str = ""
    teacher: str = ""
    init_from: str = ""
    pretraining: str = ""
    mean_teacher: bool = False
    members: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """The variants that must be finished before."""
        return self.members or tuple(filter(None, (self.teacher, self.init_from)))

    @property
    def unlabeled(self) -> bool:
        """Whether it, or its pretraining, learns from a folder of images without labels."""
        return bool(self.teacher or self.mean_teacher or self.pretraining == "masked")


@dataclass(frozen=True)
class Budget:
    """How much a training may cost.

    Attributes:
        overrides: settings of all variants.
        groups: further settings of some, by `Variant.group`.
        experiment: the base of the study on this budget; "": the study's own.
        folds: None for all.
        seeds: a training each.
        without: variants that the data has too few images for.
        validations: in a training, at equal distances; 0: as the settings say.
        unlabeled: images without labels to take, the first by file name; None: all.
        pretraining: settings of a pretraining by its method.
        noise: what is known about trainings that differ in the seed only.
    """

    overrides: Changes = field(default_factory=dict)
    groups: Mapping[str, Changes] = field(default_factory=dict)
    experiment: str = ""
    folds: tuple[int, ...] | None = None
    seeds: tuple[int, ...] = (0,)
    without: tuple[str, ...] = ()
    validations: int = 0
    unlabeled: int | None = None
    pretraining: Mapping[str, Changes] = field(default_factory=dict)
    noise: str = ""


@dataclass(frozen=True)
class Study:
    """Variants of an experiment and the budgets to train them on.

    Attributes:
        base: the experiment that all variants change, or its configuration.
        reference: of the variants that name none; "": these have no gain.
        shared: variants that the study ``parent`` trains and records.
        complete: whether its runs lie under output/runs, with a submission and a report like any other; a run that
            others learn from must.
        chart: "gains", or "labels" for scores over the number of labeled images.
        arguments: of `saltseg study`, where they are more than the name.
        details: further entries of a record, see `saltseg.studies.case_study.measure.details`.
    """

    name: str
    base: str | Config
    variants: Mapping[str, Variant]
    budgets: Mapping[str, Budget]
    reference: str = ""
    parent: str = ""
    shared: tuple[str, ...] = ()
    complete: bool = False
    chart: Literal["gains", "labels"] = "gains"
    arguments: str = ""
    details: Callable[..., dict[str, Any]] | None = None

    def with_base(self, experiment: str) -> "Study":
        """The same variants of another experiment, as a study of its own."""
        base = named(experiment)
        if experiment in EXPERIMENTS and EXPERIMENTS[experiment].needs:
            raise InputError(f"{experiment} goes on from a trained run; give an experiment that starts by itself")
        if base.train.checkpoint == "best":
            raise InputError(
                f"{experiment} selects its best epoch on the images that report the gain; "
                "give an experiment with train.checkpoint=last"
            )
        budgets = {name: replace(budget, experiment="") for name, budget in self.budgets.items()}
        name, arguments = f"{self.name}_{base.name}", f"{self.name} --experiment {experiment}"
        return replace(self, name=name, base=base, budgets=budgets, parent="", shared=(), arguments=arguments)

    def reference_of(self, variant: str) -> str:
        """The variant that the gain of ``variant`` is measured over; "" for none."""
        reference = self.variants[variant].reference or self.reference
        return reference if reference in self.variants and reference != variant else ""


@dataclass(frozen=True)
class Sweep:
    """A study on a dataset with a budget; images: the folder of images without labels."""

    study: Study
    data: str
    budget_name: str
    input_dir: Path
    output_dir: Path
    images: Path | None = None
    transduction: bool = False

    @property
    def budget(self) -> Budget:
        """How much a training may cost; InputError for a name that there is not."""
        if self.budget_name not in self.study.budgets:
            raise InputError(unknown_name("budget", self.budget_name, self.study.budgets))
        return self.study.budgets[self.budget_name]

    @property
    def name(self) -> str:
        """Of the folders of records and runs."""
        return f"{self.study.name}-{self.data}-{self.budget_name}"

    @property
    def folder(self) -> Path:
        """Where its records, table and chart are."""
        return self.output_dir / "published" / "studies" / self.name

    @property
    def logs(self) -> Path:
        """Where trainings side by side write their logs."""
        return self.output_dir / "studies" / self.name / "logs"

    def owner(self, variant: str) -> "Sweep":
        """The sweep that trains and records a variant: this one, or that of the study's parent."""
        shared = variant in self.study.shared
        return replace(self, study=replace(self.study, name=self.study.parent, shared=())) if shared else self

    def record_path(self, variant: str, seed: int) -> Path:
        """The record of a training, whether it is there or not."""
        return self.owner(variant).folder / f"{variant}-{seed}.json"

    def run_dir(self, variant: str, seed: int) -> runs.RunDir:
        """The run or blend of a training, whether it is there or not."""
        owner = self.owner(variant)
        if not self.study.complete:
            return runs.RunDir(self.output_dir / "studies" / owner.name / f"{variant}-{seed}")
        kind = "blends" if self.study.variants[variant].members else "runs"
        return runs.RunDir(self.output_dir / kind / f"{owner.name}-{variant}-{seed}")

    def experiment(self, variant: str) -> Config:
        """The configuration that a variant and its budget change."""
        base = self.study.variants[variant].experiment or self.budget.experiment or self.study.base
        return named(base) if isinstance(base, str) else base

    def base(self, variant: str) -> Config:
        """The same on the budget."""
        return self._change(variant, {})

    def settings(self, variant: str, seed: int) -> Config:
        """The configuration of a training; InputError where the variant does not fit the base."""
        spec = self.study.variants[variant]
        own = spec.overrides(self.base(variant)) if callable(spec.overrides) else spec.overrides
        return self._change(variant, {**self._sources(variant, seed), **own, "train.seed": seed})

    def changes(self, variant: str) -> list[str]:
        """What a variant changes in the base on the budget: ``["model.skip: concat → add"]``."""
        lines = config.differences(self.base(variant), self.settings(variant, 0))
        return [line for line in lines if not line.endswith("→ -") and line.split(":")[0] != "train.seed"]

    def pretraining(self, variant: str, seed: int) -> tuple[Path, Config]:
        """Folder and configuration of the pretraining of a variant; variants that differ in the group share one."""
        spec, budget = self.study.variants[variant], self.budget
        name = f"{self.owner(variant).name}-{variant.removesuffix(f'_{spec.group}')}-{seed}"
        own = {} if callable(spec.overrides) else spec.overrides
        changes = {**budget.overrides, **own, **budget.pretraining.get(spec.pretraining, {}), "train.seed": seed}
        return self.output_dir / "pretrained" / name, config.change(self.experiment(variant), changes)

    def _change(self, variant: str, own: Changes) -> Config:
        start, budget = self.experiment(variant), self.budget
        changes = {**budget.overrides, **budget.groups.get(self.study.variants[variant].group, {}), **own}
        if budget.validations:
            epochs = changes.get("train.epochs", start.train.epochs)
            changes["train.val_every_n_epochs"] = epochs // budget.validations
        return config.change(start, changes)

    def _sources(self, variant: str, seed: int) -> dict[str, Any]:
        """The settings that name what a variant learns from beside its labels."""
        spec, found = self.study.variants[variant], dict[str, Any]()
        if spec.pretraining:
            found["train.init_from"] = f"file:{self.pretraining(variant, seed)[0] / 'weights.safetensors'}"
        if spec.init_from:
            found["train.init_from"] = self.run_dir(spec.init_from, seed).name
        if spec.teacher:
            found["pseudo.teacher"] = self.run_dir(spec.teacher, seed).name
        if spec.mean_teacher:
            found |= {"pseudo.images": str(self.images or "images"), "pseudo.limit": self.budget.unlabeled or 0}
        if self.transduction and (spec.teacher or spec.mean_teacher):
            found["pseudo.transduction"] = True
        return found

    def select(self, only: str) -> list[str]:
        """The variants called so ("a,b"; "": all that the budget has), in the order of the study."""
        possible = [name for name in self.study.variants if name not in self.budget.without]
        names = only.split(",") if only else possible
        for name in names:
            if name not in possible:
                raise InputError(unknown_name("variant", name, possible))
        return [name for name in possible if name in names]
