"""The configuration: inverse conversions, refusals that name the nearest key, overrides in order."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from saltseg import config, yaml12
from saltseg.config import (
    Config,
    ConstantSchedule,
    CosineSchedule,
    DataConfig,
    FCNConfig,
    FoldsConfig,
    MeanTeacher,
    PredictConfig,
    PseudoLabels,
    SmpConfig,
    TrainConfig,
    UNetConfig,
)
from saltseg.errors import InputError

FLOATS = st.floats(1e-12, 1e3)
CONFIGS = st.builds(
    Config,
    # Names that YAML would read as something else: numbers, dates, booleans, other line ends.
    name=st.text(max_size=12) | st.sampled_from(["1e3", "null", "on", "2018-10-19", "0x1F", "a: b", "~", "1:30"]),
    model=st.one_of(
        st.builds(
            UNetConfig, filters=st.integers(1, 64), dropout=st.floats(0, 0.99), in_channels=st.sampled_from([1, 3])
        ),
        st.builds(FCNConfig, dilations=st.lists(st.integers(1, 9), min_size=1).map(tuple)),
        st.builds(SmpConfig, encoder=st.text(min_size=1, max_size=5), weights=st.sampled_from(["none", "file:~/a b"])),
    ),
    data=st.builds(DataConfig, resize_mode=st.sampled_from(["resize", "pad"]), size=st.integers(16, 1024)),
    folds=st.builds(FoldsConfig, count=st.integers(2, 100), holdout=st.floats(0.01, 0.99)),
    train=st.builds(
        TrainConfig,
        learning_rate=FLOATS,
        precision=st.sampled_from(["auto", "32", "bf16"]),
        checkpoint=st.just("last"),
        schedule=st.one_of(st.builds(ConstantSchedule), st.builds(CosineSchedule, warmup_epochs=st.integers(0, 49))),
    ),
    pseudo=st.none() | st.builds(PseudoLabels, teacher=st.text(min_size=1, max_size=5)),
    predict=st.builds(PredictConfig, tta=st.lists(st.sampled_from(["identity", "hflip"]), min_size=1).map(tuple)),
)


@settings(max_examples=25, deadline=None)
@given(CONFIGS)
def test_mapping_and_yaml_are_inverse_to_reading(chosen: Config) -> None:
    assert config.from_mapping(config.to_mapping(chosen)) == chosen
    assert config.from_mapping(yaml12.parse(config.dump(chosen))) == chosen


@settings(max_examples=25, deadline=None)
@given(CONFIGS)
def test_every_key_can_be_set_to_its_own_value(chosen: Config) -> None:
    """`flat` lists the whole configuration: overriding a default with all of them gives the other one."""
    assignments = [key + "=" + yaml12.dump(value).removesuffix("...\n") for key, value in config.flat(chosen).items()]
    assert config.override(Config(), assignments) == chosen


def test_defaults_are_the_case_studys() -> None:
    """128x128, 16 filters, dropout 0.05, Adam at 0.001 cut tenfold after 5 bad epochs, stop after 10, batch 32."""
    changed = Config()
    assert (changed.data.resize_mode, changed.data.size, changed.data.augment) == ("resize", 128, "none")
    assert (changed.model.architecture, changed.model.filters, changed.model.dropout) == ("unet", 16, 0.05)
    train = changed.train
    assert (train.epochs, train.batch_size, train.learning_rate) == (50, 32, 1e-3)
    assert (train.schedule.factor, train.schedule.patience, train.schedule.minimum_learning_rate) == (0.1, 5, 1e-5)
    assert (train.early_stopping_patience, changed.predict.tta, changed.predict.postprocessing) == (
        10,
        ("identity",),
        "half",
    )


def test_it_is_frozen_all_the_way_down() -> None:
    changed = Config()
    for name in ("model", "data", "folds", "train", "predict", "runtime"):
        part = getattr(changed, name)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, dataclasses.fields(part)[0].name, None)
    hash(changed)  # no list hides inside


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("train.epochs=3", 3),
        ("train.learning_rate=1e-3", 0.001),  # text to YAML 1.1
        ("train.learning_rate=2", 2.0),
        ("train.precision=32", "32"),  # a number to YAML
        ("model.in_channels=3", 3),
        ("predict.tta=[identity, hflip]", ("identity", "hflip")),
        ("predict.tta=hflip", ("hflip",)),
        (" train.epochs =7", 7),
        ("name=a=b", "a=b"),
        ("name=2020-13-45", "2020-13-45"),  # no date: YAML 1.2 has none
        ("name=yes", "yes"),
        ("train.seed=010", 10),  # not octal
        ("train.schedule.patience=3", 3),
    ],
)
def test_an_assignment_is_read_as_its_key_asks(assignment: str, value: object) -> None:
    changed = config.override(Config(), [assignment])
    found: object = changed
    for part in assignment.partition("=")[0].strip().split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)
    assert len(config.differences(Config(), changed)) == (found != 1e-3)  # nothing else changed


def test_the_last_assignment_wins_and_the_original_stays() -> None:
    changed = Config()
    assert config.override(changed, ["train.epochs=3", "train.epochs=4"]).train.epochs == 4
    assert changed == Config()


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.epoch=3", r"unknown configuration key 'train.epoch'; did you mean train.epochs"),
        ("epochs=3", r"unknown configuration key 'epochs'; did you mean .*train.epochs"),
        ("model.size=3", r"unknown configuration key 'model.size'; did you mean .*data.size"),
        ("model.learning_rate=3", r"'model.learning_rate'; did you mean .*train.learning_rate"),
        ("zzzzzzzzzzzz.seed=3", r"did you mean folds.seed, train.seed"),  # right name, far from its section
        ("zzz=1", r"unknown configuration key 'zzz'; known: data.augment, .*train.weight_decay"),
        ("train=3", r"unknown configuration key 'train'"),  # a section is no setting
        ("model=3", r"model is 3; expected key: value pairs"),
        ("model.encoder=resnet18", r"model.architecture=unet has no encoder; it belongs to smp"),
        ("train.schedule.num_cycles=2", r"train.schedule=plateau has no num_cycles; it belongs to cosine"),
        ("model.architecture=foo", r"model.architecture is 'foo'; choose unet, fcn or .*smp.Unet"),
        ("train.checkpoint=last", r"train.checkpoint is 'last'; .*set train.schedule=cosine"),
        ("train.schedule=fast", r"train.schedule is .*fast.*; choose one of plateau, constant, cosine, one_cycle"),
        ("pseudo.share=0.5", r"set pseudo.teacher=RUN or pseudo.images=FOLDER"),
        ("train.epochs.more=3", r"unknown configuration key 'train.epochs.more'"),
        ("train.epochs", r"--set 'train.epochs': no '='; write for example --set train.epochs=3"),
        ("predict.tta=[a", r"--set 'predict.tta=\[a': cannot be read"),
        ("train.epochs=three", r"train.epochs is 'three'; expected int"),
        ("train.epochs=3.0", r"train.epochs is 3.0; expected int"),
        ("train.epochs=true", r"train.epochs is True; expected int"),  # a bool is an int to Python
        ("train.learning_rate=true", r"train.learning_rate is True; expected float"),
        ("train.learning_rate=fast", r"train.learning_rate is 'fast'; expected float"),
        ("name=3", r"name is 3; expected str"),
        ("data.resize_mode=crop", r"data.resize_mode is 'crop'; choose one of resize, pad"),
        ("model.in_channels=2", r"model.in_channels is 2; choose one of 1, 3"),
        ("predict.tta=[1]", r"predict.tta is 1; choose one of identity, hflip"),
        ("predict.tta=[]", r"predict.tta is .*; give at least 1"),
        ("model.filters=0", r"model.filters is 0; it must be at least 1"),
        ("model.filters=10000000001", r"model.filters is 10000000001; it must be at most 10,000,000,000"),
        ("train.batch_size=99999999999999999999", r"train.batch_size is 9+; it must be at most 10,000,000,000"),
        ("runtime.predict_batch_size=99999999999999999999", r"predict_batch_size is 9+; it must be at most"),
        ("model.dropout=1", r"model.dropout is 1; it must be below 1"),
        ("data.size=15", r"data.size is 15; it must be at least 16"),
        ("folds.count=1", r"folds.count is 1; it must be at least 2"),
        ("folds.holdout=1", r"folds.holdout is 1; it must be below 1"),
        ("train.epochs=0", r"train.epochs is 0; it must be at least 1"),
        ("train.batch_size=1", r"train.batch_size is 1; it must be at least 2"),
        ("train.learning_rate=0", r"train.learning_rate is 0; it must be above 0"),
        ("train.learning_rate=inf", r"train.learning_rate is 'inf'; expected float"),
        ("train.learning_rate=nan", r"train.learning_rate is 'nan'; expected float"),
        ("train.schedule.factor=1", r"train.schedule.factor is 1; it must be below 1"),
        ("train.schedule.patience=0", r"train.schedule.patience is 0; it must be at least 1"),
        ("train.early_stopping_patience=0", r"train.early_stopping_patience is 0; it must be at least 1"),
        ("runtime.predict_batch_size=0", r"runtime.predict_batch_size is 0; it must be at least 1"),
    ],
)
def test_a_bad_assignment_names_key_value_and_way_out(assignment: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        config.override(Config(), [assignment])


@pytest.mark.parametrize(
    ("assignment", "key"),
    [
        pytest.param('name=!!int ""', "name", id="a tag"),
        pytest.param("name=&a [*a]", "name", id="an alias"),
        pytest.param("name=" + "[" * 3000, "name", id="too deep"),
        pytest.param("name=[" + "1, " * 100_000 + "1]", "name", id="too long"),
        pytest.param("train.schedule.num_cycles=0", "num_cycles", id="once a division by zero"),
        pytest.param("train.epochs=0x_", "train.epochs", id="hexadecimal without digits"),
        pytest.param(f"train.learning_rate=1{'0' * 400}", "train.learning_rate", id="beyond a float"),
        pytest.param("predict.tta=hflp", "hflp.*hflip", id="a view found out after hours of training"),
        pytest.param("train.seed=-1", "train.seed", id="numpy takes no negative seed"),
        pytest.param("train.seed=20251123120000", "train.seed", id="seeds of steps are made of it"),
        pytest.param("folds.seed=-1", "folds.seed", id="nor do the folds"),
        pytest.param(
            "train.schedule.minimum_learning_rate=-1", "train.schedule.minimum_learning_rate", id="rate below zero"
        ),
        pytest.param(
            "train.schedule.minimum_learning_rate=nan",
            "train.schedule.minimum_learning_rate",
            id="rate that is no number",
        ),
    ],
)
def test_no_assignment_ends_in_a_traceback(assignment: str, key: str) -> None:
    with pytest.raises(InputError, match=key) as refused:
        config.override(Config(), [assignment])
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", r"config.yaml is not YAML"),
        ("name: \udcff", r"config.yaml is not YAML \('utf-8' codec can't decode byte 0xff"),
        ("- 1", r"config.yaml: configuration is \[1\]; expected key: value pairs"),
        ("train: 3", r"train is 3; expected key: value pairs"),
        ("trian: {}", r"unknown configuration key 'trian'; did you mean train"),
        ("train: {epoch: 3}", r"unknown configuration key 'train.epoch'; did you mean train.epochs"),
        ("1: 2", r"unknown configuration key '1'"),
        pytest.param("[]", r"configuration is \[\]; expected key: value pairs"),
        pytest.param("0", r"configuration is 0; expected key: value pairs"),
        pytest.param("a: &x [1]\nb: *x", r"config.yaml is not YAML \(cannot be read \(anchors"),
    ],
)
def test_a_bad_file_is_named_and_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=message) as refused:
        config.load(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_a_run_of_an_older_version_is_told_how_to_migrate(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("train: {schedule: cosine, warmup: 2, keep: last}")
    (tmp_path / "provenance.json").write_text("{}")
    with pytest.raises(InputError, match=rf"python scripts/migrate.py {tmp_path}$"):
        config.load(tmp_path / "config.yaml")


def test_what_a_file_leaves_out_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("train: {epochs: 3}")
    assert config.load(tmp_path / "x.yaml") == config.override(Config(), ["train.epochs=3"])


def test_differences_name_key_and_both_values() -> None:
    changed = config.override(Config(), ["train.epochs=3", "predict.tta=[hflip]"])
    assert config.differences(Config(), Config()) == []
    assert config.differences(Config(), changed) == [
        "train.epochs: 50 → 3",
        "predict.tta: ['identity'] → ['hflip']",
    ]


def test_another_kind_leaves_foreign_settings_out_and_keeps_what_both_have() -> None:
    unet = config.override(
        Config(), ["model.in_channels=3", "model.filters=4", "train.schedule.minimum_learning_rate=1e-6"]
    )
    fpn = config.override(unet, ["model.architecture=smp.FPN", "train.checkpoint=last", "train.schedule.kind=cosine"])
    assert fpn.model == SmpConfig(architecture="smp.FPN", in_channels=3)
    assert fpn.train.schedule == CosineSchedule(minimum_learning_rate=1e-6)
    # As a word it is that schedule with its defaults.
    plain = config.override(unet, ["train.checkpoint=last", "train.schedule=cosine"])
    assert plain.train.schedule == CosineSchedule()
    mean_teacher = config.override(Config(), ["pseudo.images=u", "train.ema_decay=0.9", "pseudo.ramp_up_fraction=0.5"])
    assert mean_teacher.pseudo == MeanTeacher(images="u", ramp_up_fraction=0.5)
    assert config.override(mean_teacher, ["pseudo=null"]).pseudo is None


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        ("model=fcn model.filters=8", r"model is 'fcn'; expected key: value pairs; .* model.architecture=fcn"),
        ("model.filters=8 model=fcn", r"model is 'fcn'; expected key: value pairs"),
        ("model=smp.FPN model.encoder=resnet34", r"model is 'smp.FPN'; expected key: value pairs"),
        ("model=3 model.filters=8", r"model is 3; expected key: value pairs"),
        ("train.schedule=3 train.schedule.factor=0.5", r"train.schedule is 3; .* example train.schedule=cosine"),
        ("train.schedule=[cosine] train.schedule.factor=0.5", r"train.schedule is \['cosine'\]; expected key: value"),
        ("pseudo=teacher pseudo.share=0.5", r"pseudo is 'teacher'; .* pseudo.teacher=RUN"),
    ],
)
def test_a_section_is_no_word_but_for_a_schedule(assignments: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        config.override(Config(), assignments.split())


def test_a_schedule_is_chosen_before_its_settings_in_any_order() -> None:
    every = ["train.checkpoint=last", "train.schedule=cosine", "train.schedule.num_cycles=5"]
    for assignments in (every, every[::-1], ["train.schedule={kind: cosine}", *every]):
        assert config.override(Config(), assignments).train.schedule == CosineSchedule(num_cycles=5)
    changes = {"model": {"architecture": "unet"}, "model.filters": 8}
    assert config.change(Config(), changes).model == UNetConfig(filters=8)
    assert changes["model"] == {"architecture": "unet"}  # is left as it was
    later = {"train.schedule.factor": 0.5, "train.checkpoint": "last", "train.schedule": "cosine"}
    assert config.change(Config(), later).train.schedule == CosineSchedule()  # as a variant changes its base
    assert config.override(Config(), ["pseudo.teacher=a", "pseudo=null"]).pseudo is None  # null chooses nothing


def test_runtime_is_no_part_of_a_run() -> None:
    changed = config.override(Config(), ["runtime.workers=3", "runtime.predict_batch_size=1"])
    assert (changed.runtime.workers, changed.runtime.predict_batch_size) == (3, 1)
    assert config.differences(Config(), changed) == []
    assert config.from_mapping(yaml12.parse(config.dump(changed))) == Config()


def test_every_setting_has_a_name_and_a_meaning() -> None:
    listed = {name: field for name, field, _ in config.settings()}
    assert {*config.flat(Config())} - {"pseudo"} <= {*listed}
    for name, field in listed.items():
        assert isinstance(field.default, FieldInfo) or name.endswith(".kind"), name
        assert name.endswith(".kind") or field.default.description, name


def test_snapshots_end_cycles() -> None:
    train = TrainConfig(epochs=14, checkpoint="snapshots", schedule=CosineSchedule(warmup_epochs=2, num_cycles=3))
    assert train.snapshot_epochs == (6, 10, 14)
    assert TrainConfig().snapshot_epochs == ()


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "null"])
def test_an_empty_file_is_not_the_default_settings(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=r"config.yaml is empty; restore it"):
        config.load(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("{}")
    assert config.load(tmp_path / "config.yaml") == config.Config()
