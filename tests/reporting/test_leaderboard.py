"""The leaderboard: values by hand, order, damaged runs, text and page."""

import re
import shutil
from dataclasses import replace

import pytest
from fake_run import make_blend, reset

from saltseg import io, runs
from saltseg.cli import analyze
from saltseg.errors import InputError
from saltseg.reporting import leaderboard, page, plots, run_summary


def rescore(run, score):
    """Set the cross-fitted score, with an interval of 0.01 to either side."""
    content = io.read_json(run.postprocess)
    content["cross_fitted"] |= {"score": score, "interval": [score - 0.01, score + 0.01]}
    io.write_json(run.postprocess, content)


def names(board):
    return [row.name for row in board.rows]


def test_a_row_by_hand(fake):
    rescore(fake.run, 0.86)
    (row,) = leaderboard.read(fake.output).rows
    assert (row.name, row.kind, row.dataset, row.folds) == ("small", "run", "tgs-tiny", "2/2")
    assert row.mean("score_at_half") == pytest.approx(0.5375)
    assert row.std("score_at_half") == pytest.approx(0.725 / 2**0.5)  # of 0.9 and 0.175
    assert row.tta_gain == pytest.approx(0.03)  # of 0.02 and 0.04
    assert row.at_half == pytest.approx(0.5375)
    assert row.argmax == io.read_json(fake.run.postprocess)["argmax"]["score"]
    assert (row.cross_fitted, row.interval) == (0.86, pytest.approx((0.85, 0.87)))
    assert (row.seconds, row.solution) == (7200, {})


def test_the_estimate_for_the_mean_of_five_networks(fake):
    """What five have gained over one, added to the score of single networks with the post-processing in use."""
    rescore(fake.run, 0.86)
    row = run_summary.read(fake.run)
    assert row.submitted_estimate is None  # of two folds
    metrics = [{**row.metrics[0], "fold": fold} for fold in range(5)]
    assert replace(row, metrics=metrics).submitted_estimate is None  # the scores are of two folds
    five = replace(row, metrics=metrics, postprocess={**row.postprocess, "folds": [0, 1, 2, 3, 4]})
    kind = "tuned" if five.tuned else "half"
    gain, interval = run_summary.FIVE_OVER_ONE[kind]
    score = 0.86 if five.tuned else five.at_half
    assert five.submitted_estimate == (pytest.approx(score + gain), gain, interval)
    half = replace(five, postprocess={**five.postprocess, "selected": "half"})
    assert half.submitted_estimate.score == pytest.approx(0.5375 + 0.0092)
    others = {"postprocessing_from": "other", "postprocessing": {"threshold": 60, "min_area": 9}}
    assert replace(five, postprocessing_source=others).submitted_estimate is None
    simulated = replace(five, provenance={**five.provenance, "synthetic": True})
    assert simulated.submitted_estimate is None


def test_one_view_has_no_gain_and_one_fold_no_std(fake):
    metrics = fake.run.fold(0).metrics
    io.write_json(metrics, io.read_json(metrics) | {"tta": ["identity"]})
    fake.run.fold(1).metrics.unlink()
    io.write_json(fake.run.postprocess, io.read_json(fake.run.postprocess) | {"folds": [0]})
    row = run_summary.read(fake.run)
    assert (row.tta_gain, row.std("score_at_half"), row.folds) == (None, None, "1/2")


def test_a_run_that_was_scored_before_its_other_folds_were_trained(fake):
    rest = "saltseg predict small, then saltseg tune small"
    assert rest not in " ".join(leaderboard.read(fake.output).notes)
    io.write_json(fake.run.postprocess, io.read_json(fake.run.postprocess) | {"folds": [0]})
    board = leaderboard.read(fake.output)
    (row,) = board.rows
    assert row.folds == "1/2"
    assert (row.mean("score_at_half"), row.std("score_at_half"), row.seconds) == (0.9, None, 3600)  # of fold 0
    assert row.tta_gain == pytest.approx(0.02)
    assert board.notes[-1].startswith(f"The scores of small are of fold 0, while folds 0, 1 are finished; {rest}")


def test_order_and_blends(make_run):
    for name, score in (("low", 0.7), ("high", 0.8), ("untuned", None)):
        run = make_run(name).run
        if score:
            rescore(run, score)
        else:
            run.postprocess.unlink()
    demo = make_run("demo", dataset="a_simulated", synthetic=True)
    rescore(demo.run, 0.99)
    blend = demo.output / "blends" / "both"
    shutil.copytree(demo.output / "runs" / "low", blend)
    (blend / "config.yaml").unlink()
    for fold in (0, 1):
        shutil.rmtree(blend / f"fold_{fold}")
    rescore(runs.RunDir(blend), 0.75)
    board = leaderboard.read(demo.output)
    assert names(board) == ["high", "both", "low", "untuned", "demo"]
    assert (board.rows[1].kind, board.rows[1].folds, board.rows[1].seconds) == ("blend", "2/2", None)
    assert board.rows[3].cross_fitted is None


def test_runs_on_different_data_of_one_name_are_not_ranked_together(make_run, undrawn, monkeypatch):
    fake, charts = make_run("old-high"), []
    monkeypatch.setattr(plots, "score_intervals", lambda rows: charts.append([name for name, *_ in rows]) or b"a chart")
    rescore(fake.run, 0.9)
    for name, score, hash_ in (("new-low", 0.7, "ef" * 32), ("old-low", 0.6, None), ("new-high", 0.8, "ef" * 32)):
        run = make_run(name).run
        rescore(run, score)
        io.write_json(run.provenance, run.read_provenance() | ({"dataset_hash": hash_} if hash_ else {}))
    board = leaderboard.read(fake.output)
    old, new = ["old-high", "old-low"], ["new-high", "new-low"]
    assert [[row.name for row in rows] for _, rows in board.datasets] in ([old, new], [new, old])
    text = leaderboard.html(board)
    assert charts in ([old, new], [new, old])
    assert f"<h2>tgs-tiny, sha256 {'ef' * 8}</h2>" in text
    assert f"tgs-tiny, sha256 {'ef' * 8}: new-high, new-low" in " ".join(leaderboard.table(board).split())
    for name in new:
        io.remove(fake.output / "runs" / name)
    board = leaderboard.read(fake.output)
    assert "sha256" not in leaderboard.table(board)
    assert "<h2>tgs-tiny</h2>" in leaderboard.html(board)


def test_a_submission_with_another_runs_post_processing_is_named(fake):
    used = {"postprocessing_from": "other", "postprocessing": {"threshold": 60, "min_area": 9}}
    io.write_json(fake.run.postprocessing_source, used)
    assert "The submission of small has the post-processing of other" in " ".join(leaderboard.read(fake.output).notes)
    fake.run.postprocess.unlink()  # no scores of its own beside
    assert "post-processing of other" not in " ".join(leaderboard.read(fake.output).notes)


def test_a_score_of_exactly_0_is_in_the_chart(fake, undrawn):
    content = io.read_json(fake.run.postprocess)
    content["cross_fitted"] |= {"score": 0.0, "interval": [0.0, 0.0]}
    io.write_json(fake.run.postprocess, content)
    text = leaderboard.html(leaderboard.read(fake.output))
    assert text.count("<img") == 1
    assert "No run is tuned yet" not in text


@pytest.mark.parametrize("file", ["postprocess", "provenance", "config", "solution_score", "postprocessing_source"])
def test_a_damaged_run_is_left_out_and_named(make_run, undrawn, file):
    fake, bad = make_run("good"), make_run("bad").run
    getattr(bad, file).write_text("{")
    board = leaderboard.read(fake.output)
    assert names(board) == ["good"]
    text = leaderboard.table(board)
    assert re.search(r"left out, because they cannot be read:\n  bad:\s", text)
    assert getattr(bad, file).name in text.split("left out")[1].replace("\n      ", "")
    assert "Left out, because it cannot be read: bad: " in leaderboard.html(board)


def test_a_damaged_member_does_not_stop_its_blend(make_run):
    fake, bad = make_run("good"), make_run("bad").run
    make_blend(fake, "both", ["good", "bad"])
    bad.config.write_text("train: 3\n")
    board = leaderboard.read(fake.output)
    assert sorted(names(board)) == ["both", "good"]
    assert board.rows[names(board).index("both")].checkpoints == {"good": "best", "bad": None}


def test_only_damaged_runs_are_an_error(fake):
    fake.run.postprocess.write_text("{}")
    with pytest.raises(InputError, match=r"small: .*postprocess.json: no postprocessing in it"):
        leaderboard.read(fake.output)


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"no run in .*; train one with saltseg run, or give --output"):
        leaderboard.read(tmp_path)


def test_the_members_of_a_blend_are_below_the_table(make_run):
    fake = make_run("low")
    blend = runs.RunDir(fake.output / "blends" / "both")
    shutil.copytree(fake.run.path, blend.path)

    def shown(**values):
        io.write_json(blend.provenance, fake.run.read_provenance() | values)
        lines = leaderboard.table(leaderboard.read(fake.output)).splitlines()
        return lines[lines.index("blends:") + 1 : lines.index("", lines.index("blends:"))]

    assert shown(members=["low", "high", "mid"], weights=[2, 0, 1]) == ["  both = 2/3 low + 1/3 mid"]
    assert shown(members=["low", "high"], weights=[0, 1]) == ["  both = high alone"]
    assert shown(members=["low", "high"]) == ["  both = 1/2 low + 1/2 high"]  # weights are not recorded
    many = shown(members=[f"a-long-name-{k}" for k in range(20)], weights=[1] * 20)
    assert max(map(len, many)) <= 110
    assert "".join(line.strip() + " " for line in many).count("1/20 a-long-name-") == 20
    shutil.rmtree(blend.path)
    assert "blends:" not in leaderboard.table(leaderboard.read(fake.output))


LAST = ("train.schedule=cosine", "train.checkpoint=last")


def test_every_row_says_which_weights_predict(make_run, undrawn):
    fake = make_run("chose")
    rescore(fake.run, 0.75)
    for name, settings in (("fixed", LAST), ("snaps", (*LAST, "train.checkpoint=snapshots"))):
        reset(make_run(name).run, *settings)
    for name, members in (
        ("both-chose", ["chose"]),
        ("mix", ["chose", "fixed"]),
        ("also-fixed", ["fixed"]),
        ("of-a-blend", ["also-fixed", "fixed"]),
        ("one-gone", ["fixed", "gone"]),
        ("unnamed", []),
    ):
        make_blend(fake, name, members)
    board = leaderboard.read(fake.output)
    expected = {
        **{"chose": "best", "fixed": "last", "snaps": "snapshots"},
        **{"both-chose": "best", "mix": "mixed", "also-fixed": "last", "of-a-blend": "last"},
        **{"one-gone": "", "unnamed": ""},
    }
    assert {row.name: row.checkpoint for row in board.rows} == expected
    header, _, *lines = leaderboard.table(board).splitlines()
    end = header.index("checkpoint") + len("checkpoint")
    assert {line.split()[0]: line[end - 10 : end].strip() for line in lines[:9]} == expected
    assert leaderboard.CHECKPOINTS in " ".join(lines)
    text = leaderboard.html(board)
    assert leaderboard.CHECKPOINTS in text
    shown = re.findall(r"</td><td>(best|last|snapshots|mixed|)</td><td>", text)
    assert shown == [row.checkpoint for row in board.rows]


def test_a_blend_that_ended_up_inside_itself_is_not_followed_for_ever(fake):
    """Names are reused: "one" was blended into "two", removed, and made anew from "two"."""
    make_blend(fake, "one", ["two"])
    two = make_blend(fake, "two", ["small", "one"])
    assert run_summary.read(two).checkpoints == {"small": "best", "two": None}


def test_networks_that_predict_an_image(make_run):
    """Two folds; "snaps" has a network for each of five cycles."""
    fake = make_run("one")
    reset(make_run("snaps").run, *LAST, "train.schedule.num_cycles=5", "train.checkpoint=snapshots")
    make_blend(fake, "both", ["one", "snaps"])
    for name, per_fold in (("one", 1), ("snaps", 5), ("both", 6)):
        summary = run_summary.read(runs.existing_run(fake.output, name))
        assert (summary.networks_per_fold, summary.networks) == (per_fold, 2 * per_fold)
    unused = make_blend(fake, "one-of-two", ["one", "snaps"], weights=[1, 0])
    assert run_summary.read(unused).networks == 2
    nested = make_blend(fake, "nested", ["both", "gone"])
    assert run_summary.read(nested).networks == 14  # a run that is gone counts as one


def test_the_table_fits_a_terminal_and_its_columns_line_up(make_run):
    dataset = "tgs-with-a-long-name"
    long = make_run("a-rather-long-name-of-a-run-that-somebody-typed", dataset=dataset)
    rescore(long.run, 0.84567)
    rescore(make_run("b", dataset=dataset).run, 0.8)
    blend = make_blend(long, "a-rather-long-name-of-a-blend-that-somebody-typed", ["b"])
    rescore(blend, 0.7)
    lines = leaderboard.table(leaderboard.read(long.output)).splitlines()
    assert max(map(len, lines)) == 160
    assert lines[2].index("0.8457 [0.8357, 0.8557]") == lines[3].index("0.8000 [0.7900, 0.8100]")
    assert lines[2].startswith("a-rather-long-name-of-a…  tgs-wit…  ")
    assert lines[4].startswith("a-rather-long-n… (blend)")
    assert "+0.0300" in lines[2]
    assert "2 h 00 min" in lines[2]
    record = io.read_json(long.run.fold(0).metrics)
    io.write_json(long.run.fold(0).metrics, record | {"seconds": 360_000})  # over 100 hours
    assert max(map(len, leaderboard.table(leaderboard.read(long.output)).splitlines())) == 160


def test_the_page(fake):
    text = leaderboard.html(leaderboard.read(fake.output))
    assert text.count('<img src="data:image/png;base64,') == text.count("<img") == 1
    assert not re.search(r"https?:|<script|<link|url\(", text)


def test_a_name_from_a_file_is_escaped(make_run, undrawn):
    fake = make_run("x")
    io.write_json(fake.run.provenance, fake.run.read_provenance() | {"dataset": "<i>tiny</i>"})
    text = leaderboard.html(leaderboard.read(fake.output))
    assert "&lt;i&gt;tiny&lt;/i&gt;" in text
    assert "<i>tiny" not in text


@pytest.mark.parametrize(
    ("recorded", "shown"),
    [({"dataset": "tgs"}, True), ({"dataset": "tgs-half"}, True), ({"dataset": "north-sea"}, False),
     ({"synthetic": True}, False)],
)  # fmt: skip
def test_the_lines_of_2018_are_shown_with_the_competitions_data_only(fake, undrawn, recorded, shown):
    io.write_json(fake.run.provenance, fake.run.read_provenance() | recorded)
    board = leaderboard.read(fake.output)
    assert ("leaderboard of 2018" in " ".join(leaderboard.table(board).split())) == shown
    assert ("bronze 0.85918" in leaderboard.html(board)) == shown


def test_a_solution_is_shown(fake, undrawn):
    io.write_json(fake.run.solution_score, {"all": 0.7, "public": 0.71, "private": 0.69})
    board = leaderboard.read(fake.output)
    assert re.search(r"0\.7100 +0\.6900", leaderboard.table(board).splitlines()[2])
    assert "<td>0.7100</td><td>0.6900</td>" in leaderboard.html(board)


def test_durations():
    seconds = (None, 4.6, 89, 91, 5390, 5400, 7199, 11880)
    shown = ["–", "5 s", "89 s", "2 min", "1 h 30 min", "1 h 30 min", "2 h 00 min", "3 h 18 min"]
    assert [page.duration(value) for value in seconds] == shown


def test_the_verb(fake, capsys):
    assert analyze.leaderboard(fake.output) == ["saltseg", "report", "small"]
    assert f"page: {fake.output / 'leaderboard.html'}" in capsys.readouterr().out
    assert (fake.output / "leaderboard.html").is_file()


def test_scores_made_the_older_way_are_named_below_the_table(fake, undrawn):
    assert "were selected on all folds" not in leaderboard.table(leaderboard.read(fake.output))
    content = io.read_json(fake.run.postprocess)
    del content["cross_fitted"]["nested"]
    io.write_json(fake.run.postprocess, content)
    board = leaderboard.read(fake.output)
    assert "The steps of the post-processing of small were selected on all folds" in leaderboard.table(board)
    assert "The steps of the post-processing of small were selected on all folds" in leaderboard.html(board)
