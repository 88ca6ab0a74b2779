"""A damaged run: named in one line, it stops neither the leaderboard nor the other runs."""

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from damage import variants
from fake_run import make_blend

from saltseg import io, runs
from saltseg.cli import analyze
from saltseg.errors import InputError
from saltseg.reporting import leaderboard, report


def check_board(output: Path) -> leaderboard.Leaderboard:
    """The leaderboard as text and page; a run that cannot be read is named in one line."""
    board = leaderboard.read(output)
    leaderboard.table(board)
    leaderboard.html(board)
    assert not any("\n" in line for line in board.damaged)
    return board


@pytest.mark.slow
@pytest.mark.parametrize("name", ["provenance", "postprocess", "solution_score", "metrics"])
def test_whatever_a_file_holds_the_other_run_is_listed(make_run, undrawn, name):
    fake, bad = make_run("good"), make_run("bad").run
    io.write_json(bad.solution_score, {"all": 0.7, "public": 0.71, "private": 0.69, "n": 3})
    path = bad.fold(0).metrics if name == "metrics" else getattr(bad, name)
    content, listed, left_out = io.read_json(path), 0, 0
    texts = [json.dumps(value) for value in variants(content)]
    for text in random.Random(0).sample(texts, min(len(texts), 150)):
        path.write_text(text)
        board = check_board(fake.output)
        names = {row.name for row in board.rows}
        assert "good" in names
        assert ("bad" in names) != any(line.startswith("bad: ") for line in board.damaged)
        listed, left_out = listed + ("bad" in names), left_out + ("bad" not in names)
    assert listed > 5
    assert left_out > 30


@pytest.mark.slow
@pytest.mark.parametrize("name", ["postprocess", "metrics", "log", "provenance"])
def test_the_page_of_a_damaged_run_is_refused_in_one_line(fake, undrawn, name):
    path = {
        "metrics": fake.run.fold(0).metrics,
        "log": fake.run.fold(0).log,
        "postprocess": fake.run.postprocess,
        "provenance": fake.run.provenance,
    }[name]
    whole = path.read_text()
    if name == "log":
        texts = [whole.replace(old, new) for old in ("0.4", "3,", "epoch", ",", "\n") for new in ("nan", "x", "-1", "")]
    else:
        texts = [json.dumps(value) for value in variants(json.loads(whole))]
    fine, lines = 0, list[str]()
    for text in random.Random(1).sample(texts, min(len(texts), 30)):
        path.write_text(text)
        try:
            report.build(fake.run, fake.workspace)
            fine += 1
        except InputError as error:
            lines.append(str(error))
    assert fine > 0
    assert lines
    assert not any("\n" in line for line in lines)


def test_files_that_cannot_be_opened_and_pipes_do_not_stop_the_leaderboard(make_run, undrawn):
    fake = make_run("good")
    for number, kind in enumerate(("folder", "pipe", "loop", "big")):
        run = make_run(f"bad{number}").run
        for path in (run.provenance, run.postprocess):
            path.unlink()
            if kind == "folder":
                path.mkdir()
            elif kind == "pipe":
                os.mkfifo(path)
            elif kind == "loop":
                path.symlink_to(path)
            else:
                with path.open("wb") as file:
                    file.truncate(10**8)
    board = check_board(fake.output)
    assert [row.name for row in board.rows] == ["good"]
    assert [line.partition(":")[0] for line in board.damaged] == ["bad3"]  # the others have no provenance: no runs


def test_a_blend_of_itself_does_not_stop_the_leaderboard(make_run, undrawn):
    fake = make_run("good")
    make_blend(fake, "own", ["own"])
    make_blend(fake, "one", ["other", "good"])
    make_blend(fake, "other", ["one", "own"])
    board = check_board(fake.output)
    assert {row.name for row in board.rows} == {"good", "own", "one", "other"}
    with pytest.raises(InputError, match=r"blend own contains itself \(own > own\)"):
        runs.leaf_runs(fake.output, "own")


def test_the_verb_succeeds_beside_a_bad_run(make_run, undrawn, capsys):
    fake, bad = make_run("good"), make_run("bad").run
    bad.provenance.write_text("{}")
    assert analyze.leaderboard(fake.output) == ["saltseg", "report", "good"]
    assert "bad:" in capsys.readouterr().out


def test_a_diverged_training_is_named_by_page_and_leaderboard(fake, undrawn):
    metrics = fake.run.fold(1).metrics
    io.write_json(metrics, io.read_json(metrics) | {"diverged_at_epoch": 4})
    board = leaderboard.read(fake.output)
    where = "fold 1 at epoch 4"
    assert f"trainings that diverged and stopped early:\n  small: {where}" in leaderboard.table(board)
    assert f"Training diverged and stopped early: small, {where}" in leaderboard.html(board)
    page = report.build(fake.run, fake.workspace)
    assert "Training of fold 1 diverged: the validation loss of epoch 4 was not finite." in page
    assert "uses the weights of epoch 3" in page
    assert "<td>diverged at epoch</td><td>–</td><td>4</td>" in page


def test_learning_curves_of_a_log_without_the_epoch_used_are_drawn(fake):
    """The log and metrics.json are of different trainings."""
    from saltseg.reporting import plots

    logs = {0: [{"epoch": 1, "train_loss": 0.5, "valid_loss": np.nan, "learning_rate": 0.1}]}
    assert plots.learning_curves(logs, {0: 7}).startswith(b"\x89PNG")
