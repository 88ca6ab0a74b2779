"""How much faster are two workers than one? Predicts a simulated survey on Dask workers of one thread each, in turn.

  python benchmarks/workers.py FOLDER --rounds 3

Workers have loaded the networks before. The slabs are what they share; the rest of the command is done by one process.
"""

import argparse
import os
import shutil
import time
from pathlib import Path

import numpy as np
from distributed import LocalCluster

from harness import one_line
from saltseg.pipeline import survey as pipeline
from saltseg.pipeline import survey_slabs
from saltseg.releases import ModelDir
from saltseg.seismic.volume import Survey
from saltseg.synthetic import survey as simulator
from saltseg.workers import Workers

MODEL = Path(__file__).resolve().parents[1] / "models" / "salt-simulated"


def measure(folder: Path, rounds: int) -> None:
    """Print the seconds of each round and the median ratio."""
    path, spent, predict = folder.resolve() / "survey.sgy", list[float](), survey_slabs.predict
    if not path.exists():
        simulator.simulate_survey(path, simulator.SurveySize(64, 120, 240))
    survey, seconds = Survey.open(path), {1: list[float](), 2: list[float]()}

    def timed(*arguments: object) -> None:
        started = time.perf_counter()
        predict(*arguments)  # type: ignore[arg-type]
        spent.append(time.perf_counter() - started)

    survey_slabs.predict = timed
    for number in range(rounds):
        for count in (1, 2) if number % 2 else (2, 1):
            with LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None) as cluster:
                where = Workers(cluster=cluster.scheduler_address)
                for _ in ("load the networks", "measure"):
                    shutil.rmtree(folder / "out", ignore_errors=True)
                    started, options = time.perf_counter(), pipeline.Options(tta=("identity",))
                    pipeline.predict_survey(
                        ModelDir(MODEL), survey, folder / "out" / "salt.sgy", lambda prediction: "", options,
                        input_dir=folder, where=where,
                    )  # fmt: skip
                    whole = time.perf_counter() - started
            seconds[count].append(spent[-1])
            print(f"{count} workers: {spent[-1]:.1f} s for the slabs, {whole:.1f} s in all", flush=True)
    ratios = np.array(seconds[1]) / np.array(seconds[2])
    print(f"slabs, two workers: {np.median(ratios):.2f} times as fast as one [{ratios.min():.2f}, {ratios.max():.2f}]")
    print(
        f"one worker: {2 * survey.layout.traces * survey.layout.samples / np.median(seconds[1]):,.0f} samples a second"
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with one_line():
        measure(arguments.folder, arguments.rounds)
