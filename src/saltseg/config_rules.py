"""What a configuration has to fulfil: every rule about a single setting, or about settings that go together."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saltseg.config import Config, TrainConfig

Rule = tuple[str, Any, Any, str]  # a setting, its value, whether that holds, and what it must be


def rules(config: "Config") -> tuple[Rule, ...]:
    """All rules, in the order in which they are told; the first that does not hold is the message."""
    model, data, folds, predict = config.model, config.data, config.folds, config.predict
    return (
        ("model.filters", model.filters, model.filters >= 1, "at least 1"),
        ("model.dropout", model.dropout, 0 <= model.dropout < 1, "in [0, 1)"),
        ("model.decoder_channels", channels := model.decoder_channels, all(c >= 1 for c in channels), "positive"),
        ("model.dilations", spread := model.dilations, spread and min(spread) >= 1, "one or more, each at least 1"),
        ("data.size", data.size, 16 <= data.size <= 1024, "between 16 and 1024 pixels"),
        ("folds.count", folds.count, 2 <= folds.count <= 100, "between 2 and 100"),
        ("folds.holdout", folds.holdout, 0 < folds.holdout < 1, "between 0 and 1"),
        ("folds.seed", folds.seed, folds.seed >= 0, "0 or more"),
        ("folds.train_images", folds.train_images, folds.train_images >= 0, "0 for all, or a number of images"),
        *_of_training(config),
        *_of_self_training(config),
        ("predict.batch_size", predict.batch_size, predict.batch_size >= 1, "at least 1"),
        ("predict.views", predict.views, len(predict.views) >= 1, "at least one view"),
        ("predict.views", predict.views, _upright(config), "identity and hflip alone with model.extra_channels"),
    )


def _of_training(config: "Config") -> tuple[Rule, ...]:
    model, data, train = config.model, config.data, config.train
    own = config.pseudo.teacher == "self"
    return (
        ("train.seed", train.seed, 0 <= train.seed < 10**10, "0 or more, with ten digits at most"),
        ("train.epochs", train.epochs, train.epochs >= 1, "at least 1"),
        ("train.batch_size", train.batch_size, train.batch_size >= 2, "at least 2 (batch norm)"),
        ("train.late_from", train.late_from, 0 <= train.late_from <= train.epochs, "an epoch, or 0 for never"),
        ("train.loss_region", train.loss_region, _has_border(config), "frame, unless data.fit=pad adds a border"),
        ("train.side_weight", train.side_weight, train.side_weight >= 0, "0 or more"),
        ("train.empty_weight", train.empty_weight, train.empty_weight >= 0, "0 or more"),
        ("train.learning_rate", train.learning_rate, train.learning_rate > 0, "positive"),
        ("train.minimum_learning_rate", train.minimum_learning_rate, train.minimum_learning_rate >= 0, "0 or more"),
        ("train.weight_decay", train.weight_decay, train.weight_decay >= 0, "0 or more"),
        ("train.warmup", train.warmup, 0 <= train.warmup < train.epochs, "0 or more, and fewer than train.epochs"),
        ("train.warmup", train.warmup, not train.warmup or train.schedule == "cosine", "0 without schedule=cosine"),
        ("train.cycles", cycles := train.cycles, cycles >= 1, "at least 1"),
        ("train.cycles", cycles, cycles == 1 or train.schedule == "cosine", "1 without schedule=cosine"),
        ("train.cycles", cycles, cycles and _falling(train) % cycles == 0, f"a divisor of {_falling(train)} epochs"),
        ("train.plateau_factor", train.plateau_factor, 0 < train.plateau_factor < 1, "in (0, 1)"),
        ("train.plateau_patience", train.plateau_patience, train.plateau_patience >= 1, "at least 1"),
        ("train.clip", train.clip, train.clip >= 0, "0 or more"),
        ("train.ema", train.ema, 0 <= train.ema < 1, "in [0, 1)"),
        ("train.swa_from", train.swa_from, 0 <= train.swa_from <= train.epochs, "an epoch, or 0 for never"),
        ("train.swa_from", train.swa_from, not (train.swa_from and train.ema), "0 with train.ema, or ema=0"),
        ("train.keep", train.keep, train.keep == "last" or not train.swa_from, "last with train.swa_from"),
        ("train.keep", train.keep, train.keep == "best" or train.schedule != "plateau", "best with schedule=plateau"),
        ("train.validate_every", every := train.validate_every, every >= 1, "at least 1"),
        ("train.validate_every", every, every == 1 or _fixed_length(train), "1, unless nothing depends on the loss"),
        ("train.validate_every", every, every and train.epochs % every == 0, "a divisor of the epochs"),
        ("train.validate_every", every, every and _meets_snapshots(train), "a divisor of warmup and cycle"),
        ("train.half_size_until", half := train.half_size_until, 0 <= half < train.epochs, "0, or before the end"),
        ("train.half_size_until", half, not half or _halves(data.size), "0, or data.size even and 32 or more"),
        ("train.half_size_until", half, not half or train.loss_region == "frame", "0 with train.loss_region=tile"),
        ("train.half_size_until", half, not half or train.keep == "last", "0 unless train.keep=last"),
        ("train.half_size_until", half, not half or not 0 < train.swa_from <= half, "0, or end before train.swa_from"),
        ("train.half_size_until", half, not half or not model.empty_head, "0 with model.empty_head"),  # loses thin salt
        ("train.half_size_until", half, not half or not own, "0 with pseudo.teacher=self, which labels at full size"),
        ("train.stop_patience", train.stop_patience, train.stop_patience >= 1, "at least 1"),
    )


def _of_self_training(config: "Config") -> tuple[Rule, ...]:
    train, pseudo = config.train, config.pseudo
    own, all_folds = pseudo.teacher == "self", pseudo.all_folds
    return (
        ("pseudo.limit", pseudo.limit, pseudo.limit >= 0, "0 for all, or a number of images"),
        ("pseudo.limit", pseudo.limit, own or not pseudo.limit, "0 without pseudo.teacher=self"),
        ("pseudo.label_after", after := pseudo.label_after, 0 <= after < 1, "in [0, 1)"),
        ("pseudo.label_after", after, own or not after, "0 without pseudo.teacher=self"),
        ("pseudo.label_after", after, not after or pseudo.share < 1, "0 with share=1"),
        ("pseudo.label_after", after, _leaves_an_epoch(config), f"at most 1 - 1/{train.epochs}, to leave an epoch"),
        ("pseudo.share", pseudo.share, 0 < pseudo.share <= 1, "above 0, at most 1"),
        ("pseudo.confidence", pseudo.confidence, 0 <= pseudo.confidence < 1, "in [0, 1)"),
        ("pseudo.labels", pseudo.labels, _takes_soft_labels(config), "hard with a Lovász or the focal loss"),
        ("pseudo.images", pseudo.images, bool(pseudo.images) == own, "given with teacher=self, and only then"),
        ("pseudo.confidence", pseudo.confidence, not (own and pseudo.confidence), "0 with teacher=self"),
        ("pseudo.all_folds", all_folds, not all_folds or _has_teacher(config), "false without a run as teacher"),
        ("train.keep", train.keep, train.keep != "best" or not all_folds, "last or snapshots with all_folds"),
        ("train.ema", train.ema, train.ema > 0 or not own, "above 0 with pseudo.teacher=self: that is the teacher"),
    )


def _has_border(config: "Config") -> bool:
    return config.train.loss_region == "frame" or config.data.fit == "pad"


def _takes_soft_labels(config: "Config") -> bool:
    """Whether every loss that this training uses takes probabilities as labels."""
    losses = config.train.loss + (config.train.late_loss if config.train.late_from else "")
    hard = not config.pseudo.teacher or config.pseudo.labels == "hard"
    return hard or not any(name in losses for name in ("lovasz", "focal"))


def _leaves_an_epoch(config: "Config") -> bool:
    return config.pseudo.label_after * config.train.epochs <= config.train.epochs - 1


def _has_teacher(config: "Config") -> bool:
    """Whether a run teaches this one."""
    return config.pseudo.teacher not in ("", "self")


def _upright(config: "Config") -> bool:
    """A view that turns the tile would turn the image and not the rows that `model.extra_channels` adds."""
    return not config.model.extra_channels or set(config.predict.views) <= {"identity", "hflip"}


def _fixed_length(train: "TrainConfig") -> bool:
    return train.keep != "best" and train.schedule != "plateau" and not train.swa_from


def _falling(train: "TrainConfig") -> int:
    """Epochs after the warm-up, which the cycles share."""
    return train.epochs - train.warmup


def _halves(size: int) -> bool:
    return size % 2 == 0 and size >= 32


def _meets_snapshots(train: "TrainConfig") -> bool:
    """Whether the end of every cycle is an epoch that is validated, if that is when weights are kept."""
    ends = (train.warmup, _falling(train) // train.cycles)
    return train.keep != "snapshots" or all(end % train.validate_every == 0 for end in ends)
