"""The comparison of runs: figures by hand, order, bands of the 2018 board, both presentations."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_run import make_blend, reset

from saltseg import runs, storage
from saltseg.errors import InputError
from saltseg.reporting import facts, leaderboard, page

SCRIPT = Path(__file__).parents[2] / "scripts" / "leaderboard.py"


def rescore(run, score, adopted="tuned"):
    """Set the cross-fitted score, with an interval of 0.01 to either side."""
    found = storage.read_json(run.postprocess)
    found["cross_fitted"] |= {"score": score, "interval": [score - 0.01, score + 0.01]}
    storage.write_json(run.postprocess, found | {"adopted": adopted})


@pytest.mark.parametrize(
    ("score", "band"),
    [
        (0.95, "above 1st place (0.8964)"),
        (0.8964, "above 1st place (0.8964)"),
        (0.89, "between silver (0.87163) and gold (0.89097)"),
        (0.89097, "between gold (0.89097) and 1st place (0.8964)"),
        (0.8716, "between bronze (0.85918) and silver (0.87163)"),
        (0.85, "between the median (0.81665) and bronze (0.85918)"),
        (0.81664, "below the median (0.81665)"),
        (0.0, "below the median (0.81665)"),
    ],
)
def test_bands(score, band):
    assert leaderboard.standing(score) == band


def test_a_row_by_hand(fake):
    rescore(fake.run, 0.86)
    row = leaderboard.row(fake.run)
    assert (row.name, row.kind, row.dataset, row.folds) == ("small", "run", "tgs-tiny", "2/2")
    assert row.fold_mean == pytest.approx(0.5375)
    assert row.fold_spread == pytest.approx(0.725 / 2**0.5)  # of 0.9 and 0.175
    assert row.tta_gain == pytest.approx(0.03)  # of 0.02 and 0.04
    assert row.at_half == pytest.approx(0.5375)
    assert row.interval == pytest.approx((0.85, 0.87))
    assert row.expected == pytest.approx(0.8765)
    assert row.standing == "between silver (0.87163) and gold (0.89097)"
    assert (row.seconds, row.public, row.private) == (7200, None, None)


def test_without_tuning_the_expectation_is_that_of_one_half(fake):
    rescore(fake.run, 0.86, adopted="half")
    assert leaderboard.row(fake.run).expected == pytest.approx(0.5375 + 0.0165)


def test_one_view_has_no_gain_and_one_fold_no_spread(fake):
    metrics = fake.run.fold(0).metrics
    storage.write_json(metrics, storage.read_json(metrics) | {"views": ["identity"]})
    fake.run.fold(1).metrics.unlink()
    row = leaderboard.row(fake.run)
    assert (row.tta_gain, row.fold_spread, row.folds) == (None, None, "1/2")


def test_simulated_data_has_no_place_on_the_board(make_run):
    fake = make_run("demo", dataset="layers", synthetic=True)
    rescore(fake.run, 0.95)
    storage.write_json(fake.run.solution_score, {"all": 0.7, "public": 0.71, "private": 0.69})
    row = leaderboard.row(fake.run)
    assert (row.expected, row.standing, row.public, row.private) == (None, None, 0.71, 0.69)
    assert "2018" not in leaderboard.table([row])
    text = leaderboard.html([row])
    assert "this data is simulated" in text
    assert "would have stood" not in text


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
    rows = leaderboard.rows(demo.output)
    assert [r.name for r in rows] == ["high", "both", "low", "untuned", "demo"]
    assert (rows[1].kind, rows[1].folds, rows[1].seconds) == ("blend", "2/2", None)
    assert rows[3].cross_fitted is None


def test_what_a_blend_is_made_of_stands_below_the_table(make_run):
    fake = make_run("low")
    blend = runs.RunDir(fake.output / "blends" / "both")
    shutil.copytree(fake.run.path, blend.path)

    def shown(**facts):
        storage.write_json(blend.provenance, fake.run.read_provenance() | facts)
        lines = leaderboard.table(leaderboard.rows(fake.output)).splitlines()
        return lines[lines.index("blends:") + 1 : lines.index("", lines.index("blends:"))]

    assert shown(members=["low", "high", "mid"], weights=[2, 0, 1]) == ["  both = 2/3 low + 1/3 mid"]
    assert shown(members=["low", "high"], weights=[0, 1]) == ["  both = high alone"]
    assert shown(members=["low", "high"]) == ["  both = 1/2 low + 1/2 high"]  # made before weights were recorded
    many = shown(members=[f"a-long-name-{k}" for k in range(20)], weights=[1] * 20)
    assert max(map(len, many)) <= 110
    assert "".join(line.strip() + " " for line in many).count("1/20 a-long-name-") == 20
    shutil.rmtree(blend.path)
    assert "blends:" not in leaderboard.table(leaderboard.rows(fake.output))


LAST = ("train.schedule=cosine", "train.keep=last")


def test_which_weights_predict_is_said_of_every_row(make_run):
    fake = make_run("chose")
    rescore(fake.run, 0.75)
    for name, settings in (("fixed", LAST), ("snaps", (*LAST, "train.keep=snapshots"))):
        reset(make_run(name).run, *settings)
    for name, members in (
        ("both-chose", ["chose"]),
        ("mix", ["chose", "fixed"]),
        ("also-fixed", ["fixed"]),
        ("of-a-blend", ["also-fixed", "fixed"]),
        ("one-gone", ["fixed", "gone"]),
        ("untold", []),
    ):
        make_blend(fake, name, members)
    rows = leaderboard.rows(fake.output)
    assert {row.name: row.epoch for row in rows} == {
        **{"chose": "best", "fixed": "last", "snaps": "cycles"},
        **{"both-chose": "best", "mix": "mixed", "also-fixed": "last", "of-a-blend": "last"},
        **{"one-gone": "", "untold": ""},
    }
    header, _, *lines = leaderboard.table(rows).splitlines()
    end = header.index("epoch") + len("epoch")
    assert {line.split()[0]: line[end - 6 : end].strip() for line in lines[:9]} == {r.name: r.epoch for r in rows}
    said = "Best: those with the lowest loss on the validation images, which flatters out-of-fold scores, by 0.003"
    assert said in " ".join(lines)
    text = leaderboard.html(rows)
    assert said in text
    shown = re.findall(r"</td><td>(best|last|cycles|mixed|)</td><td>", text)
    assert shown == [r.epoch for r in rows]


def test_a_blend_that_ended_up_inside_itself_is_not_followed_for_ever(fake):
    """Names are reused: "one" was blended into "two", removed, and made anew from "two"."""
    make_blend(fake, "one", ["two"])
    two = make_blend(fake, "two", ["small", "one"])
    assert facts.read(two).keeps == {"small": "best", "two": None}


def test_the_table_fits_a_terminal_and_its_columns_line_up(make_run):
    long = make_run("a-rather-long-name-of-a-run-that-somebody-typed")
    rescore(long.run, 0.84567)
    rescore(make_run("b").run, 0.8)
    text = leaderboard.table(leaderboard.rows(long.output))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 160
    assert lines[2].index("0.8457 [0.8357, 0.8557]") == lines[3].index("0.8000 [0.7900, 0.8100]")
    assert lines[2].startswith("a-rather-long-name-of-a…")
    assert "+0.0300" in lines[2]
    assert "2 h 00 min" in lines[2]
    assert "  a-rather-long-name-of-a… (2/2 folds): 0.8622, between bronze (0.85918) and silver (0.87163)" in lines
    assert "It is an expectation, not a" in text


def test_the_page(fake):
    rescore(fake.run, 0.85)
    text = leaderboard.html(leaderboard.rows(fake.output))
    assert text.count('<img src="data:image/png;base64,') == text.count("<img") == 1
    assert not re.search(r"https?:|<script|<link|url\(", text)
    assert "between bronze (0.85918) and silver (0.87163)" in text
    assert "It is an expectation" in text


def test_a_name_from_a_file_is_escaped(make_run):
    fake = make_run("x")
    storage.write_json(fake.run.provenance, fake.run.read_provenance() | {"dataset": "<i>tiny</i>"})
    text = leaderboard.html(leaderboard.rows(fake.output))
    assert "&lt;i&gt;tiny&lt;/i&gt;" in text
    assert "<i>tiny" not in text


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"no run in .*; train one with scripts/run.py, or give --output"):
        leaderboard.rows(tmp_path)


def test_durations():
    seconds = (None, 4.6, 89, 91, 5390, 5400, 7199, 11880)
    shown = ["–", "5 s", "89 s", "2 min", "1 h 30 min", "1 h 30 min", "2 h 00 min", "3 h 18 min"]
    assert [page.duration(value) for value in seconds] == shown


def test_the_script(fake):
    command = [sys.executable, str(SCRIPT), "--output", str(fake.output)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"page: {fake.output / 'leaderboard.html'}" in done.stdout
    assert done.stdout.endswith("next: python scripts/report.py small\n")
    assert (fake.output / "leaderboard.html").is_file()


def test_only_the_competitions_data_has_a_place_on_its_board(make_run):
    """Somebody's own survey, even one that is not simulated, is not expected anywhere on the board of 2018."""
    own = make_run("own")
    rescore(own.run, 0.85)
    storage.write_json(own.run.provenance, own.run.read_provenance() | {"dataset": "north-sea"})
    row = leaderboard.row(own.run)
    assert (row.cross_fitted, row.expected, row.standing) == (0.85, None, None)
    storage.write_json(own.run.provenance, own.run.read_provenance() | {"dataset": "tgs"})
    assert leaderboard.row(own.run).expected == pytest.approx(0.8665)
