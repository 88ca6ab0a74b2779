"""Ancestors of a training, found from the files that runs and pretrainings leave, and what follows for its score."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_run import salt, write_table

from saltseg import config, io, provenance
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.metrics import rle
from saltseg.runs import RunDir

KEEP_LAST = ("train.checkpoint=last", "train.schedule=cosine")


def settings(*changes: str) -> config.Config:
    return config.override(config.Config(model=config.SmpConfig()), [*KEEP_LAST, *changes])


def dataset(base: Path, name: str, ids: str) -> Path:
    """A tile per letter; the first holds no salt, the others as many rows as their place in the alphabet."""
    root = base / "input" / name
    masks = [["id", "rle_mask"], *([id_, rle.encode(salt(0 if id_ == "a" else ord(id_)))] for id_ in ids)]
    write_table(root / "train.csv", masks)
    write_table(root / "sample_submission.csv", [["id", "rle_mask"], ["t", ""]])
    for part, names in (("train", ids), ("test", "t")):
        (root / part / "images").mkdir(parents=True)
        for name in names:
            (root / part / "images" / f"{name}.png").write_bytes(b"pixels")
    return root


def made(base: Path, folder: str, *changes: str, root: Path | None = None, **facts: Any) -> RunDir:
    """A run, blend or pretraining with these settings, trained on the dataset at ``root`` if it had labels."""
    run = RunDir(base / "output" / folder)
    if folder.startswith("pretrained"):
        facts = {"method": "synthetic", **facts}
    else:
        facts = {"dataset": "gone", "dataset_hash": "gone", "folds_hash": "f", "synthetic": False, **facts}
    if root is not None:
        facts |= {"dataset": root.name, "dataset_hash": competition.fingerprint(root)}
    io.write_atomic(run.config, config.dump(settings(*changes)))
    io.write_json(run.provenance, facts)
    return run


def names(found: list[RunDir]) -> set[str]:
    return {run.name for run in found}


def test_every_ancestor_is_listed_once_and_a_circle_ends(tmp_path: Path) -> None:
    made(tmp_path, "pretrained/simulated", f"model.weights=file:{tmp_path}/output/runs/old/fold_3/network.ckpt")
    made(tmp_path, "runs/old")
    made(tmp_path, "runs/teacher", f"train.init_from=file:{tmp_path}/output/pretrained/simulated/weights.safetensors")
    made(tmp_path, "runs/other", "train.init_from=teacher")
    blend = made(tmp_path, "blends/both", "pseudo.teacher=unrelated", members=["teacher", "other"])
    made(tmp_path, "runs/unrelated")
    output = tmp_path / "output"
    everything = {"both", "teacher", "other", "simulated", "old"}
    found = provenance.ancestors(settings("pseudo.teacher=both", "train.init_from=other"), output)
    assert (names(found), len(found)) == (everything, 5)  # and not what the blend's own settings, a copy, name
    blend.config.unlink()
    assert names(provenance.ancestors(settings("pseudo.teacher=both"), output)) == everything
    assert names(provenance.ancestors(settings("train.init_from=teacher"), output)) == {"teacher", "simulated", "old"}
    assert provenance.ancestors(settings(), output) == []
    own = ("pseudo.images=u", "train.ema_decay=0.9")
    assert provenance.ancestors(settings(*own, "train.init_from=file:gone.pth"), output) == []
    made(tmp_path, "runs/old", "pseudo.teacher=other")  # removed and made again, from what came of it
    assert names(provenance.ancestors(settings("train.init_from=other"), output)) == everything - {"both"}


def test_transduction_and_a_chosen_epoch_are_handed_down(tmp_path: Path) -> None:
    root, elsewhere = dataset(tmp_path, "tiny", "abc"), dataset(tmp_path, "elsewhere", "xyz")
    output = tmp_path / "output"
    made(tmp_path, "pretrained/masked", method="masked", dataset="tiny")
    made(tmp_path, "pretrained/asked", method="masked", dataset="tiny", transduction=True)
    made(tmp_path, "pretrained/elsewhere", method="masked", dataset="elsewhere")
    made(tmp_path, "pretrained/early", method="masked", dataset=None)
    made(tmp_path, "pretrained/simulated", method="synthetic")
    made(tmp_path, "runs/plain", root=root)
    made(tmp_path, "blends/both", "train.checkpoint=best", root=root, members=["plain", "chosen"])
    made(tmp_path, "runs/chosen", "train.checkpoint=best", root=root)
    made(tmp_path, "runs/foreign", "train.checkpoint=best", root=elsewhere)
    made(tmp_path, "runs/student", "pseudo.teacher=chosen", "pseudo.transduction=true", root=root)

    def inherited(*changes: str) -> tuple[bool, list[str]]:
        found = provenance.inherited(settings(*changes), output, root)
        return found["transduction"], found["epoch_chosen_in"]

    assert inherited() == (False, [])
    assert inherited("train.checkpoint=best") == (False, [])  # its own choice, which its settings tell
    assert inherited("pseudo.teacher=plain") == (False, [])
    assert inherited("pseudo.teacher=plain", "pseudo.transduction=true") == (True, [])
    assert inherited("pseudo.teacher=chosen") == (False, ["chosen"])
    assert inherited("pseudo.teacher=student") == (True, ["chosen"])
    assert inherited("train.init_from=chosen", "pseudo.teacher=student") == (True, ["chosen"])
    assert inherited("pseudo.teacher=both") == (False, ["chosen"])
    for name, may in (("masked", False), ("asked", True), ("elsewhere", True), ("early", True), ("simulated", False)):
        assert inherited(f"train.init_from=file:{output}/pretrained/{name}/weights.safetensors") == (may, [])
    assert inherited(f"model.weights=file:{output}/runs/foreign/fold_0/network.ckpt") == (False, [])


def test_weights_that_learnt_from_some_of_the_same_labels_are_refused(tmp_path: Path) -> None:
    """The same data, the same labels beside other test images, and a larger set that the data is a cut of."""
    root = dataset(tmp_path, "cut", "abc")
    dataset(tmp_path, "whole", "abcdef")
    dataset(tmp_path, "empty", "a")  # has the tile without salt in common, whose row says nothing
    dataset(tmp_path, "others", "def")
    shutil.copytree(root, tmp_path / "input" / "renamed")
    (tmp_path / "input" / "renamed" / "test" / "images" / "t.png").write_bytes(b"other pixels")
    for name in ("cut", "whole", "empty", "others", "renamed"):
        run = made(tmp_path, f"runs/on-{name}", root=tmp_path / "input" / name)
        made(tmp_path, f"pretrained/from-{name}", f"train.init_from=file:{run.fold(0).network}")
        laundered = tmp_path / "output" / "pretrained" / f"from-{name}" / "weights.safetensors"
        for key, path, through in (
            ("train.init_from", run.fold(0).network, ""),
            ("model.weights", run.fold(2).snapshot(1), ""),
            ("train.init_from", laundered, f" through on-{name}"),
        ):
            asked = settings(f"{key}=file:{path}")
            if name in ("empty", "others"):
                assert provenance.check_no_leakage(asked, root) == []
                continue
            message = rf"file:{path} learned{through} from images that validate other folds of the same data; "
            message += f"train.init_from=on-{name} starts" if name == "cut" else "use others"
            with pytest.raises(InputError, match=message):
                provenance.check_no_leakage(asked, root)
    provenance.check_no_leakage(settings("train.init_from=on-cut"), root)  # fold by fold
    whole = settings(f"train.init_from=file:{tmp_path}/output/runs/on-whole/fold_0/network.ckpt")
    (tmp_path / "input" / "whole" / "test" / "images" / "t.png").write_bytes(b"it is another dataset now")
    assert provenance.check_no_leakage(whole, root) == ["on-whole"]  # nobody can tell
    (tmp_path / "input" / "whole" / "test" / "images" / "t.png").unlink()
    assert provenance.check_no_leakage(whole, root) == ["on-whole"]
    shutil.rmtree(tmp_path / "input" / "whole")
    assert provenance.check_no_leakage(whole, root) == ["on-whole"]


def test_runs_from_before_tell_of_transduction_by_their_settings(tmp_path: Path) -> None:
    asked = ("pseudo.transduction=true", "pseudo.teacher=t")
    assert provenance.transduction(made(tmp_path, "runs/old", *asked))
    assert not provenance.transduction(made(tmp_path, "runs/older", "pseudo.teacher=t"))
    assert not provenance.transduction(
        made(tmp_path, "runs/new", *asked, transduction=False)
    )  # what is recorded counts
    assert provenance.transduction(made(tmp_path, "runs/newer", transduction=True))
    blend = made(tmp_path, "blends/both", members=["old", "older"])
    blend.config.unlink()
    assert not provenance.transduction(blend)


def test_the_machine_names_its_processor_where_linux_does(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Path.read_text

    def read(text: str) -> None:
        def of_cpuinfo(path: Path, *args: Any, **kwargs: Any) -> str:
            return text if path == Path("/proc/cpuinfo") else original(path, *args, **kwargs)

        monkeypatch.setattr(provenance.Path, "read_text", of_cpuinfo)

    read("processor\t: 0\nmodel name\t: AMD EPYC 9R14\nprocessor\t: 1\nmodel name\t: AMD EPYC 9R14\n")
    assert provenance.record()["machine"].endswith(" cores of AMD EPYC 9R14")
    read("processor\t: 0\nCPU part\t: 0xd40\n")  # as on ARM
    assert provenance.record()["machine"].endswith(" cores")
