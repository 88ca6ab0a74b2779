"""Through how many modules does one setting pass on its way from ``--set`` to the optimizer?

  python benchmarks/trace_setting.py                                                    the code here
  python benchmarks/trace_setting.py --command "scripts/run.py" --source OTHER/src      another checkout

A tiny training is started with ``train.learning_rate`` at an odd value. A profile hook notes each module of saltseg and
each script, whose functions hold that value in an argument or a variable: directly, in a configuration, in a list of
options or in a text. It stops when the optimizer exists. Child processes are followed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HOOK = """
import atexit, os, sys
WANTED, FILE = os.environ["TRACE_VALUE"], os.environ["TRACE_FILE"]
modules, depth = {}, 3

def holds(value, depth=depth):
    if isinstance(value, float):
        return repr(value) == WANTED
    if isinstance(value, str):
        return WANTED in value
    if depth == 0:
        return False
    if isinstance(value, (list, tuple)):
        return any(holds(one, depth - 1) for one in value[:40])
    if isinstance(value, dict):
        return any(holds(one, depth - 1) for one in list(value.values())[:40])
    kind = type(value).__module__
    if kind.startswith("saltseg") or kind == "argparse":
        return any(holds(one, depth - 1) for one in list(getattr(value, "__dict__", {}).values())[:40])
    return False

def key_of(frame):
    name, file = frame.f_globals.get("__name__") or "", frame.f_code.co_filename
    if name.startswith("saltseg"):
        return name
    return "scripts/" + file.rpartition("/")[2] if "/scripts/" in file else None

def note(frame, values):
    key = key_of(frame)
    if key and key not in modules and any(holds(one) for one in values):
        modules[key] = None

def hook(frame, event, argument):
    if event != "call" or frame.f_globals is None:
        return
    if frame.f_globals.get("__name__") == "torch.optim.optimizer" and frame.f_code.co_name == "__init__":
        sys.setprofile(None)
        open(FILE + ".optimizer", "w").close()
        return
    names = frame.f_code.co_varnames[: frame.f_code.co_argcount + frame.f_code.co_kwonlyargcount]
    if key_of(frame):
        note(frame, [frame.f_locals.get(one) for one in names])
    caller = frame.f_back
    if caller is not None and key_of(caller) and key_of(caller) not in modules:
        note(caller, list(caller.f_locals.values()))

@atexit.register
def write():
    sys.setprofile(None)
    with open(FILE, "a") as file:
        file.writelines(f"{name}\\n" for name in modules)

if not os.path.exists(FILE + ".optimizer"):  # later processes report
    sys.setprofile(hook)
"""


def main() -> None:
    """Run the training under the hook and print the modules in the order of their first call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", default="-m saltseg run", help='what starts a run (default: "-m saltseg run")')
    parser.add_argument("--prepare", default="-m saltseg prepare", help="what simulates a dataset")
    parser.add_argument("--source", type=Path, default=Path("src"), help="the src folder to trace (default: src)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(HOOK)
        places = ["--input", f"{folder}/input", "--output", f"{folder}/output"]
        plain = os.environ | {"PYTHONPATH": str(arguments.source.resolve())}
        simulated = ["--source", "synthetic", "--name", "tiny", "--train", "24", "--test", "4", *places[:2]]
        subprocess.run([sys.executable, *arguments.prepare.split(), *simulated], env=plain, check=True)
        traced = plain | {"PYTHONPATH": f"{folder}{os.pathsep}{plain['PYTHONPATH']}"}
        traced |= {"TRACE_VALUE": "0.0012345678", "TRACE_FILE": f"{folder}/modules"}
        options = ["demo", "--data", "tiny", "--folds", "0", *places]
        for setting in ("train.learning_rate=0.0012345678", "train.epochs=1", "data.size=32"):
            options += ["--set", setting]
        subprocess.run(
            [sys.executable, *arguments.command.split(), *options], env=traced, check=True, stdout=subprocess.DEVNULL
        )
        modules = list(dict.fromkeys((Path(folder) / "modules").read_text().splitlines()))
    print(*modules, sep="\n")
    print(f"{len(modules)} modules")


if __name__ == "__main__":
    main()
