"""The named experiments. Each is a few lines and a why; ``--set section.key=value`` changes one for a run."""

from dataclasses import replace
from pathlib import Path

from saltseg.config import Config, DataConfig, ModelConfig, PredictConfig, TrainConfig, load, unknown
from saltseg.errors import InputError

# The case study to the letter: tiles resized to 128x128, no augmentation, threshold 0.5, best epoch by validation loss.
UNET_SPEC = Config(name="unet_spec")

# The same network with what everybody adds. Reflect padding keeps pixels as they are (resize and pad tie in the
# literature), and 101 -> 112 costs a quarter less than 101 -> 128. Only left-right flips: gravity has a direction.
UNET = Config(
    name="unet",
    data=DataConfig(fit="pad", size=112, augment="light"),
    predict=PredictConfig(views=("identity", "hflip"), decision="tuned"),
)

EXPERIMENTS: dict[str, Config] = {
    config.name: config
    for config in (
        UNET_SPEC,
        UNET,
        # Five minutes on two cores: the same network at half the resolution costs a quarter per image.
        replace(
            UNET,
            name="demo",
            data=DataConfig(fit="resize", size=64, augment="light"),
            folds=replace(UNET.folds, count=3),
            train=TrainConfig(epochs=12, batch_size=16, learning_rate=2e-3, plateau_patience=2, plateau_factor=0.3),
        ),
        # The off-the-shelf yardstick: a ResNet34 U-Net of segmentation-models-pytorch, random weights.
        replace(
            UNET,
            name="unet_resnet34",
            model=ModelConfig(architecture="smp.Unet"),
            data=replace(UNET.data, size=128),
        ),
    )
}


def named(name: str) -> Config:
    """The experiment called ``name``, or the configuration in the YAML file at that path.

    Raises InputError naming the nearest experiments.
    """
    if name in EXPERIMENTS:
        return EXPERIMENTS[name]
    if name.endswith((".yaml", ".yml")):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise InputError(
                f"no configuration to read at {name}; a run keeps its own in output/runs/RUN/config.yaml"
            ) from None
        return load(text, name)
    raise InputError(unknown("experiment", name, EXPERIMENTS))
