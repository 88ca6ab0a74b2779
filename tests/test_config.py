"""The configuration: inverse conversions, refusals that name the nearest key, overrides in order."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from saltseg import config
from saltseg.config import Config, DataConfig, FoldsConfig, ModelConfig, PredictConfig, TrainConfig
from saltseg.errors import InputError

FLOATS = st.floats(1e-12, 1e3)
CONFIGS = st.builds(
    Config,
    # Names that YAML would read as something else: numbers, dates, booleans, other line ends.
    name=st.text(max_size=12) | st.sampled_from(["1e3", "null", "on", "2018-10-19", "0x1F", "a: b", "~", "1:30"]),
    model=st.builds(
        ModelConfig, filters=st.integers(1, 64), dropout=st.floats(0, 0.99), in_channels=st.sampled_from([1, 3])
    ),
    data=st.builds(DataConfig, fit=st.sampled_from(["resize", "pad"]), size=st.integers(16, 1024)),
    folds=st.builds(FoldsConfig, count=st.integers(2, 100), holdout=st.floats(0.01, 0.99)),
    train=st.builds(TrainConfig, learning_rate=FLOATS, precision=st.sampled_from(["auto", "32", "bf16"])),
    predict=st.builds(PredictConfig, views=st.lists(st.sampled_from(["identity", "hflip"]), min_size=1).map(tuple)),
)


@settings(max_examples=25, deadline=None)
@given(CONFIGS)
def test_mapping_and_yaml_are_inverse_to_reading(chosen: Config) -> None:
    assert config.from_mapping(config.to_mapping(chosen)) == chosen
    assert config.from_mapping(yaml.safe_load(config.dump(chosen))) == chosen


@settings(max_examples=25, deadline=None)
@given(CONFIGS)
def test_every_key_can_be_set_to_its_own_value(chosen: Config) -> None:
    """`flat` lists the whole configuration: overriding a default with all of them gives the other one."""
    mapping = config.to_mapping(chosen)
    assignments = []
    for key in config.flat(chosen):
        value = mapping
        for part in key.split("."):
            value = value[part]
        text = yaml.safe_dump([value], default_flow_style=True, width=10**6).strip()
        assignments.append(f"{key}={text[1:-1]}")  # without the list's brackets, as a user writes it
    assert config.override(Config(), assignments) == chosen


def test_defaults_are_the_case_studys() -> None:
    """128x128, 16 filters, dropout 0.05, Adam at 0.001 cut tenfold after 5 bad epochs, stop after 10, batch 32."""
    changed = Config()
    assert (changed.data.fit, changed.data.size, changed.data.augment) == ("resize", 128, "none")
    assert (changed.model.architecture, changed.model.filters, changed.model.dropout) == ("unet", 16, 0.05)
    train = changed.train
    assert (train.epochs, train.batch_size, train.learning_rate) == (50, 32, 1e-3)
    assert (train.plateau_factor, train.plateau_patience, train.minimum_learning_rate) == (0.1, 5, 1e-5)
    assert (train.stop_patience, changed.predict.views, changed.predict.decision) == (10, ("identity",), "half")


def test_it_is_frozen_all_the_way_down() -> None:
    changed = Config()
    for name in ("model", "data", "folds", "train", "predict"):
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
        ("predict.views=[identity, hflip]", ("identity", "hflip")),
        ("predict.views=hflip", ("hflip",)),
        (" train.epochs =7", 7),
        ("name=a=b", "a=b"),
    ],
)
def test_an_assignment_is_read_as_its_key_asks(assignment: str, value: object) -> None:
    changed = config.override(Config(), [assignment])
    found: object = changed
    for part in assignment.partition("=")[0].strip().split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)
    assert config.differences(Config(), changed) or found == 1e-3  # nothing else changed:
    assert len(config.differences(Config(), changed)) == (found != 1e-3)


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
        ("zzz=1", r"unknown configuration key 'zzz'; known: name, model.architecture, .*predict.decision"),
        ("train=3", r"unknown configuration key 'train'"),  # a section is no setting
        ("train.epochs.more=3", r"unknown configuration key 'train.epochs.more'"),
        ("train.epochs", r"--set train.epochs: no '='; write for example --set train.epochs=3"),
        ("predict.views=[a", r"--set predict.views=\[a: '\[a' cannot be read"),
        ("train.epochs=three", r"train.epochs is 'three'; expected int"),
        ("train.epochs=3.0", r"train.epochs is 3.0; expected int"),
        ("train.epochs=true", r"train.epochs is True; expected int"),  # a bool is an int to Python
        ("train.learning_rate=true", r"train.learning_rate is True; expected float"),
        ("train.learning_rate=fast", r"train.learning_rate is 'fast'; expected float"),
        ("name=3", r"name is 3; expected str"),
        ("data.fit=crop", r"data.fit is 'crop'; choose one of resize, pad"),
        ("model.in_channels=2", r"model.in_channels is 2; choose one of 1, 3"),
        ("predict.views=[1]", r"predict.views is 1; choose one of identity, hflip"),
        ("predict.views=[]", r"predict.views is \(\); it must be at least one view"),
        ("model.filters=0", r"model.filters is 0; it must be at least 1"),
        ("model.dropout=1", r"model.dropout is 1.0; it must be in \[0, 1\)"),
        ("data.size=15", r"data.size is 15; it must be between 16 and 1024 pixels"),
        ("folds.count=1", r"folds.count is 1; it must be between 2 and 100"),
        ("folds.holdout=1", r"folds.holdout is 1.0; it must be between 0 and 1"),
        ("train.epochs=0", r"train.epochs is 0; it must be at least 1"),
        ("train.batch_size=1", r"train.batch_size is 1; it must be at least 2 \(batch norm\)"),
        ("train.learning_rate=0", r"train.learning_rate is 0.0; it must be positive"),
        ("train.learning_rate=inf", r"train.learning_rate is inf; it must be positive"),
        ("train.learning_rate=nan", r"train.learning_rate is nan; it must be positive"),
        ("train.plateau_factor=1", r"train.plateau_factor is 1.0; it must be in \(0, 1\)"),
        ("train.plateau_patience=0", r"train.plateau_patience is 0; it must be at least 1"),
        ("train.stop_patience=0", r"train.stop_patience is 0; it must be at least 1"),
        ("predict.batch_size=0", r"predict.batch_size is 0; it must be at least 1"),
    ],
)
def test_a_bad_assignment_names_key_value_and_way_out(assignment: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        config.override(Config(), [assignment])


@pytest.mark.parametrize(
    ("assignment", "key"),
    [
        pytest.param("name=2020-13-45", "name", id="impossible date"),
        pytest.param("train.epochs=0x_", "train.epochs", id="hexadecimal without digits"),
        pytest.param(f"train.learning_rate=1{'0' * 400}", "train.learning_rate", id="beyond a float"),
        pytest.param("predict.views=hflp", "hflp.*hflip", id="a view found out after hours of training"),
        pytest.param("train.seed=-1", "train.seed", id="numpy takes no negative seed"),
        pytest.param("train.seed=20251123120000", "train.seed", id="seeds of steps are made of it"),
        pytest.param("folds.seed=-1", "folds.seed", id="nor do the folds"),
        pytest.param("train.minimum_learning_rate=-1", "train.minimum_learning_rate", id="rate below zero"),
        pytest.param("train.minimum_learning_rate=nan", "train.minimum_learning_rate", id="rate that is no number"),
    ],
)
def test_no_assignment_ends_in_a_traceback(assignment: str, key: str) -> None:
    with pytest.raises(InputError, match=key):
        config.override(Config(), [assignment])


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
        pytest.param("name: 2020-13-45", r"config.yaml is not YAML"),
    ],
)
def test_a_bad_file_is_named_and_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=message) as refused:
        config.load(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_what_a_file_leaves_out_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("train: {epochs: 3}")
    assert config.load(tmp_path / "x.yaml") == config.override(Config(), ["train.epochs=3"])


def test_differences_name_key_and_both_values() -> None:
    changed = config.override(Config(), ["train.epochs=3", "predict.views=[hflip]"])
    assert config.differences(Config(), Config()) == []
    assert config.differences(Config(), changed) == [
        "train.epochs: 50 → 3",
        "predict.views: ['identity'] → ['hflip']",
    ]
