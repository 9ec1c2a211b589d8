"""One command for each job: `python3 run.py demo`, `python3 run.py test`, `python3 run.py comfyui`.

Each job first sets up a virtual environment in .venv (AUDIOX_VENV names another place) and then does its work
in it. What was installed is noted there, so that a second run starts at once; an environment that is broken
or out of date is repaired. Arguments after the job's name are passed on: `python3 run.py test -m "not slow"`.

Only the standard library is used here. Python 3.10 or newer.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
REQUIREMENTS = ROOT / "requirements-dev.txt"
CONSTRAINTS = ROOT / "constraints-dev.txt"
STAMP = "audiox-stamp.json"
PACK_LINK = "audiox_pack"  # a name for the pack as a Python package; the folder itself may be called anything
# Two at a time, those of a file in one process, for what they share. "-n 0" among the arguments undoes it.
SIDE_BY_SIDE = ["-n", "2", "--dist", "loadfile"]

USAGE = """usage: python3 run.py JOB [arguments passed on]

jobs:
  demo      a line of text in, a sound out; a film in, the film with sound out; with pictures of the sounds
            and what is measured in them (in demo_output/)
            arguments: those of `python -m tools.demo`, e.g. --prompt "rain on a tin roof" --steps 20
  test      ruff, mypy and the whole test suite; arguments: those of pytest, e.g. -m "not slow"
  comfyui   starts a ComfyUI checkout with this pack; arguments: those of ComfyUI, e.g. --port 8190

environment:
  COMFYUI_DIR   a ComfyUI checkout. Without it: `comfyui` starts the one in whose custom_nodes this folder
                lies, else ~/ComfyUI; the other jobs take ~/ComfyUI first, so that tests stay away from the
                ComfyUI one works with
  AUDIOX_VENV   where the virtual environment is or is to be made: a new or empty folder, or one made by
                run.py (default: .venv beside this file)"""


class SetupError(Exception):
    """Something that the person who called run.py has to put right."""


def say(text: str) -> None:
    """Print one line at once, also when the output goes to a file."""
    print(text, flush=True)


def main(arguments: list[str]) -> int:
    """Do the job that the first argument names; returns the exit status."""
    jobs = {"demo": run_demo, "test": run_tests, "comfyui": run_comfyui}
    if not arguments or arguments[0] in ("-h", "--help"):
        say(USAGE)
        return 0 if arguments else 2
    if arguments[0] not in jobs:
        say(f"There is no job {arguments[0]!r}.\n\n{USAGE}")
        return 2
    if sys.version_info < (3, 10):  # noqa: UP036 - people start this with whatever Python they have
        say(f"Python {sys.version.split()[0]} is too old: this needs 3.10 or newer.")
        return 2
    try:
        return jobs[arguments[0]](arguments[1:])
    except SetupError as error:
        say(f"\n{error}")
        return 1
    except KeyboardInterrupt:
        say("\nstopped")
        return 130


def environment_folder() -> Path:
    """Where the virtual environment is, or is to be made."""
    chosen = os.environ.get("AUDIOX_VENV")
    return Path(chosen).expanduser().resolve() if chosen else ROOT / ".venv"


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def find_comfyui(*, around_first: bool = False) -> Path | None:
    """A ComfyUI checkout: COMFYUI_DIR, else ~/ComfyUI, else the one around this folder; None without one.

    around_first: the one around this folder goes before ~/ComfyUI. Raises SetupError if COMFYUI_DIR names a
    folder that is none, or if the checkout found lacks its requirements.txt.
    """
    comfyui = search_comfyui(around_first)
    if comfyui and not (comfyui / "requirements.txt").is_file():
        raise SetupError(
            f"{comfyui} has no requirements.txt, so it is not a whole ComfyUI checkout. "
            "Repair it, or name another in COMFYUI_DIR."
        )
    return comfyui


def search_comfyui(around_first: bool) -> Path | None:
    """What `find_comfyui` finds, whole or not."""
    chosen = os.environ.get("COMFYUI_DIR")
    if chosen:
        folder = Path(chosen).expanduser().resolve()
        if not (folder / "main.py").is_file():
            raise SetupError(f"COMFYUI_DIR is {chosen}, but there is no main.py. Name a ComfyUI checkout.")
        return folder
    around = Path(os.path.abspath(__file__)).parents  # not resolved: custom_nodes may hold a link to here
    places = [Path.home() / "ComfyUI", *around[2:3]]
    for folder in reversed(places) if around_first else places:
        if (folder / "main.py").is_file() and (folder / "comfy").is_dir():
            return folder.resolve()
    return None


def job_environment(comfyui: Path | None) -> dict[str, str]:
    """The caller's environment without what would lead Python away from the virtual environment."""
    misleading = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH")
    env = {key: value for key, value in os.environ.items() if key not in misleading}
    env["PYTHONNOUSERSITE"] = "1"
    if comfyui:
        env["COMFYUI_DIR"] = str(comfyui)
    return env


def set_up(comfyui: Path | None) -> Path:
    """Make the virtual environment, or repair it, where needed; returns its interpreter.

    comfyui: a checkout whose requirements it has to hold, too.
    """
    folder = environment_folder()
    files = [REQUIREMENTS] + ([comfyui / "requirements.txt"] if comfyui else [])
    content = b"\0".join([sys.version.encode(), *(file.read_bytes() for file in [*files, CONSTRAINTS])])
    wanted = hashlib.sha256(content).hexdigest()
    names = [line for line in read_lines(REQUIREMENTS) if line]
    if read_stamp(folder) == wanted and is_whole(folder, names):
        return python_of(folder)

    refuse_foreign(folder)
    say(f"Setting up {folder} (once; several minutes and some gigabytes, most of it torch) ...")
    started = time.monotonic()
    install(folder, files)
    if not is_whole(folder, names):
        raise SetupError(f"{folder} still lacks packages after the installation. Delete it and start again.")
    write_stamp(folder, wanted)
    say(f"Set up in {time.monotonic() - started:.0f} s.")
    return python_of(folder)


def refuse_foreign(folder: Path) -> None:
    """Raise SetupError for an environment that somebody else made: installing would change what is in it."""
    ours = folder == ROOT / ".venv" or (folder / STAMP).exists()
    if ours or not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    raise SetupError(
        f"{folder} (AUDIOX_VENV) exists and was not made by run.py, which would install other versions of "
        "torch and more in it. Nothing was changed. Name a new or an empty folder; or, to use that "
        "environment as it is, run the command itself with its Python, such as `python -m pytest tests` or "
        "`python -m tools.demo`."
    )


def install(folder: Path, files: list[Path]) -> None:
    """Make the environment if there is none that starts, and install `files` in it."""
    if not starts(folder):
        make_environment(folder)
    write_stamp(folder, None)
    if not pip_install(folder, files):
        raise SetupError(
            "pip could not install what is needed; see above. Check network and disk space and start again. "
            f"If that does not help, delete {folder} first."
        )


def make_environment(folder: Path) -> None:
    """Create a virtual environment, in place of a broken one."""
    if subprocess.call([sys.executable, "-m", "venv", "--clear", str(folder)], cwd=ROOT) != 0:
        raise SetupError("Python made no virtual environment. On Debian and Ubuntu: apt install python3-venv")


def pip_install(folder: Path, files: list[Path]) -> bool:
    """Install `files` with pip, showing what it is at; returns whether it succeeded."""
    command = [str(python_of(folder)), "-m", "pip", "install", "--disable-pip-version-check", "--no-compile"]
    command += ["--progress-bar", "off", "-c", str(CONSTRAINTS)]
    for file in files:
        command += ["-r", str(file)]
    pipe, merged, env = subprocess.PIPE, subprocess.STDOUT, job_environment(None)
    process = subprocess.Popen(
        command, stdout=pipe, stderr=merged, text=True, errors="replace", cwd=ROOT, env=env
    )
    assert process.stdout is not None
    heard: list[str] = []
    for line in process.stdout:
        heard.append(line.rstrip())
        if re.match(r"Collecting|Building wheel|Installing collected|ERROR|error", line):
            say(f"  {line.strip()[:118]}")
    if process.wait() != 0:
        say("\n".join(f"  {line}" for line in heard[-30:]))
    return process.returncode == 0


def starts(folder: Path) -> bool:
    """Whether the environment has a Python with pip that runs."""
    try:
        call = [str(python_of(folder)), "-m", "pip", "--version"]
        return subprocess.run(call, capture_output=True, cwd=ROOT, env=job_environment(None)).returncode == 0
    except OSError:
        return False


def is_whole(folder: Path, names: list[str]) -> bool:
    """Whether the environment runs and has every package that `names` lists (requirement lines)."""
    bare = [re.split(r"[<>=!~;\[ ]", name)[0] for name in names]
    code = "import sys; from importlib.metadata import version; [version(name) for name in sys.argv[1:]]"
    try:
        call = [str(python_of(folder)), "-c", code, *bare]
        return subprocess.run(call, capture_output=True, cwd=ROOT, env=job_environment(None)).returncode == 0
    except OSError:
        return False


def read_stamp(folder: Path) -> str | None:
    """The hash of what was installed; None if the environment was never finished."""
    try:
        return json.loads((folder / STAMP).read_text(encoding="utf-8"))["requirements"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_stamp(folder: Path, requirements: str | None) -> None:
    """Mark an environment as made here; None says that what it needs is not all installed yet."""
    (folder / STAMP).write_text(json.dumps({"requirements": requirements}), encoding="utf-8")


def read_lines(file: Path) -> list[str]:
    """The lines of a requirements file without comments."""
    return [line.split("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines()]


def run_demo(arguments: list[str]) -> int:
    """The main job on the small model that is in the repository."""
    python = set_up(find_comfyui())
    # The caller's folder stays the current one, so that relative paths among the arguments keep their sense.
    # Started as a file and not with -m, no module is looked for in it (PYTHONSAFEPATH came with Python 3.11).
    env = {**job_environment(None), "PYTHONPATH": str(ROOT)}
    return subprocess.call([str(python), str(ROOT / "tools" / "demo.py"), *arguments], env=env)


def run_tests(arguments: list[str]) -> int:
    """Lint, types and tests; all of them, whichever fails."""
    comfyui = find_comfyui()
    python = set_up(comfyui)
    env = job_environment(comfyui)
    if comfyui is None:
        say("\nNO COMFYUI FOUND: tests that need it are skipped. Set COMFYUI_DIR to a checkout to run them.")
    checks = {
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
        "mypy (engine, tools)": ["mypy"],
    }
    as_package = link_as_package(python)
    if as_package:
        checks["mypy (nodes)"] = ["mypy", "--follow-imports", "silent", "-p", f"{PACK_LINK}.nodes"]
        env["MYPYPATH"] = str(as_package)
    named_tests = any((ROOT / word.split("::")[0]).exists() for word in arguments if not word.startswith("-"))
    checks["pytest"] = ["pytest", *([] if named_tests else ["tests", *SIDE_BY_SIDE]), *arguments]
    if not named_tests:
        # More threads than cores would only wait for each other.
        env.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) // 2)))

    totals, failed = [], False
    for name, command in checks.items():
        say(f"\n== {name}")
        started = time.monotonic()
        status = subprocess.call([str(python), "-m", *command], cwd=ROOT, env=env)
        failed |= status != 0
        totals.append(f"{'FAILED' if status else 'passed':8}{name:22}{time.monotonic() - started:8.1f} s")
    say("\n" + "\n".join(totals))
    return int(failed)


def link_as_package(python: Path) -> Path | None:
    """A folder in which the pack is a package of a fixed name; None where links cannot be made.

    The nodes import the engine relatively (`from ..audiox_ext`), so a type checker has to see them inside a
    package, and the name of the pack's own folder need not be one that Python can import.
    """
    folder = python.parents[1] / "types"
    folder.mkdir(exist_ok=True)
    return folder if link(folder / PACK_LINK) else None


def link(place: Path) -> bool:
    """Make `place` a link to this folder; returns False where the system does not allow it."""
    if place.is_symlink() or place.exists():
        if place.resolve() == ROOT:
            return True
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink()
    try:
        place.symlink_to(ROOT, target_is_directory=True)
    except OSError:
        return False
    return True


def run_comfyui(arguments: list[str]) -> int:
    """Start ComfyUI with this pack, without changing the checkout."""
    comfyui = find_comfyui(around_first=True)
    if comfyui is None:
        where = "https://github.com/comfyanonymous/ComfyUI"
        raise SetupError(f"No ComfyUI was found. Get it from {where} and set COMFYUI_DIR to its folder.")
    python = set_up(comfyui)
    command = [str(python), str(comfyui / "main.py")]
    if any(entry.resolve() == ROOT for entry in (comfyui / "custom_nodes").glob("*")):
        say(f"Starting {comfyui}, in which this pack is installed.")
    else:
        base = prepare_base(comfyui)
        say(f"Starting {comfyui} with this pack. Input, output and settings are in {base}.")
        say(f"Models are found in {base / 'models'} and {comfyui / 'models'}.")
        command += ["--base-directory", str(base), "--extra-model-paths-config", str(base / "models.yaml")]
        command += ["--database-url", f"sqlite:///{(base / 'user' / 'comfyui.db').as_posix()}"]
    if "--cpu" not in arguments:
        why = why_no_gpu(python)
        if why:
            say(f"{why} Starting with --cpu.")
            command.append("--cpu")
    return subprocess.call([*command, *arguments], cwd=comfyui, env=job_environment(comfyui))


def prepare_base(comfyui: Path) -> Path:
    """A base directory for ComfyUI beside its checkout: the pack, and a film to try."""
    base = ROOT / ".comfyui"
    for name in ("custom_nodes", "models/audiox", "input", "output", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    if not link(base / "custom_nodes" / "audiox"):
        # Without links (Windows without developer mode): a copy, made anew at each start.
        skip = shutil.ignore_patterns(".*", "tests", "demo_output", "__pycache__")
        shutil.copytree(ROOT, base / "custom_nodes" / "audiox", ignore=skip, dirs_exist_ok=True)
    folders = sorted(entry.name for entry in (comfyui / "models").glob("*") if entry.is_dir())
    lines = ["checkout:", f"  base_path: {json.dumps(str(comfyui))}"]
    lines += [f"  {name}: {json.dumps('models/' + name)}" for name in folders]
    (base / "models.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copy(ROOT / "examples" / "pocket_film.mp4", base / "input")
    return base


def why_no_gpu(python: Path) -> str:
    """An empty string where torch can use a GPU, of any kind; else the reason and what to do about it."""
    code = (
        "import torch; v = torch.version; made_for = v.cuda or getattr(v, 'hip', None) or "
        "getattr(v, 'xpu', None) or torch.backends.mps.is_built(); "
        "print('gpu' if torch.accelerator.is_available() else 'none' if made_for else 'cpu-build')"
    )
    call = [str(python), "-c", code]
    done = subprocess.run(call, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=job_environment(None))
    if done.stdout.strip() == "gpu":
        return ""
    if done.stdout.strip() != "cpu-build":
        return "No GPU that torch can use."
    torches = " ".join(line for line in read_lines(CONSTRAINTS) if line.startswith("torch"))
    return (
        f"The torch in {python.parents[1]} is a build for the CPU alone; for Windows the package index has "
        "no other. To use a GPU, look up at https://pytorch.org/get-started/locally which --index-url is for "
        "your card, and put the same versions from there in its place (run.py keeps them):\n"
        f"  {python} -m pip install --force-reinstall --no-deps {torches} --index-url ADDRESS\n"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
