"""Run one job: `python3 run.py demo`, `python3 run.py test` or `python3 run.py comfyui`.

Each job first prepares a virtual environment in .venv (or where AUDIOX_VENV says) and then runs inside it.
The environment records what was installed, so a second run starts immediately. A broken or outdated
environment is repaired. Arguments after the job's name are passed on: `python3 run.py test -m "not slow"`.

This file uses only the standard library. It needs Python 3.10 or newer.
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
PACKAGE = "audiox_pack"  # the pack as a Python package; its folder may have any name
# Two processes. The tests of one file stay together because they share fixtures. "-n 0" turns this off.
PARALLEL = ["-n", "2", "--dist", "loadfile"]

USAGE = """usage: python3 run.py JOB [arguments]

jobs:
  demo      makes a sound from a line of text and a soundtrack for a film, draws both and measures them
            (in demo_output/)
            arguments: those of `python -m tools.demo`, e.g. --prompt "rain on a tin roof" --steps 20
  test      runs ruff, codespell, import-linter, mypy and the test suite
            arguments: those of pytest, e.g. -m "not slow"
  comfyui   starts a ComfyUI checkout with this pack
            arguments: those of ComfyUI, e.g. --port 8190

environment:
  COMFYUI_DIR   a ComfyUI checkout. Without it, `comfyui` starts the ComfyUI whose custom_nodes holds this
                folder, else ~/ComfyUI. The other jobs prefer ~/ComfyUI, so that tests do not use the ComfyUI
                that you work with
  AUDIOX_VENV   the virtual environment (default: .venv beside this file): a new or empty folder, or one that
                run.py created"""


class SetupError(Exception):
    """A problem that the user has to solve before the job can run."""


def show(text: str) -> None:
    """Print immediately, even when the output goes to a file."""
    print(text, flush=True)


def main(arguments: list[str]) -> int:
    """Run the job that the first argument names.

    Args:
        arguments: The command line without the program's name.

    Returns:
        The exit status.
    """
    jobs = {"demo": run_demo, "test": run_tests, "comfyui": run_comfyui}
    if not arguments or arguments[0] in ("-h", "--help"):
        show(USAGE)
        return 0 if arguments else 2
    if arguments[0] not in jobs:
        show(f"Unknown job {arguments[0]!r}. Choose demo, test or comfyui.\n\n{USAGE}")
        return 2
    if sys.version_info < (3, 10):  # noqa: UP036 - users start this with whatever Python they have
        show(f"Python {sys.version.split()[0]} is too old. Use Python 3.10 or newer.")
        return 2
    try:
        return jobs[arguments[0]](arguments[1:])
    except SetupError as error:
        show(f"\n{error}")
        return 1
    except KeyboardInterrupt:
        show("\nstopped")
        return 130


def find_comfyui(*, prefer_enclosing: bool = False) -> Path | None:
    """Find a complete ComfyUI checkout.

    Args:
        prefer_enclosing: Look around this folder before ~/ComfyUI.

    Returns:
        The checkout in COMFYUI_DIR, else ~/ComfyUI, else the one whose custom_nodes holds this folder.
        None if there is no checkout.

    Raises:
        SetupError: COMFYUI_DIR is not a checkout, or the checkout has no requirements.txt.
    """
    comfyui = locate_comfyui(prefer_enclosing)
    if comfyui and not (comfyui / "requirements.txt").is_file():
        raise SetupError(
            f"{comfyui} has no requirements.txt, so it is not a complete ComfyUI checkout. "
            "Repair it, or set COMFYUI_DIR to another checkout."
        )
    return comfyui


def locate_comfyui(prefer_enclosing: bool) -> Path | None:
    """Find a ComfyUI checkout as `find_comfyui` does, complete or not."""
    configured = os.environ.get("COMFYUI_DIR")
    if configured:
        folder = Path(configured).expanduser().resolve()
        if not (folder / "main.py").is_file():
            raise SetupError(f"COMFYUI_DIR is {configured}, but there is no main.py. Name a checkout.")
        return folder
    parents = Path(os.path.abspath(__file__)).parents  # not resolved: custom_nodes may link to this folder
    candidates = [Path.home() / "ComfyUI", *parents[2:3]]
    for folder in reversed(candidates) if prefer_enclosing else candidates:
        if (folder / "main.py").is_file() and (folder / "comfy").is_dir():
            return folder.resolve()
    return None


def set_up(comfyui: Path | None) -> Path:
    """Create or repair the virtual environment if necessary.

    Args:
        comfyui: A ComfyUI checkout whose requirements are installed as well.

    Returns:
        The environment's interpreter.

    Raises:
        SetupError: The environment cannot be created, or somebody else created it.
    """
    venv = get_venv_folder()
    files = [REQUIREMENTS] + ([comfyui / "requirements.txt"] if comfyui else [])
    contents = [sys.version.encode(), *(file.read_bytes() for file in [*files, CONSTRAINTS])]
    fingerprint = hashlib.sha256(b"\0".join(contents)).hexdigest()
    packages = [line for line in read_lines(REQUIREMENTS) if line]
    if read_stamp(venv) == fingerprint and has_packages(venv, packages):
        return get_interpreter(venv)
    refuse_foreign_venv(venv)
    started = time.monotonic()
    show(f"Setting up {venv} (once; several minutes and gigabytes, most of them for torch) ...")
    install(venv, files)
    if not has_packages(venv, packages):
        raise SetupError(f"{venv} still lacks packages after the installation. Delete it and start again.")
    write_stamp(venv, fingerprint)
    show(f"Set up in {time.monotonic() - started:.0f} s.")
    return get_interpreter(venv)


def get_venv_folder() -> Path:
    """Return the folder of the virtual environment, whether it exists or not."""
    configured = os.environ.get("AUDIOX_VENV")
    return Path(configured).expanduser().resolve() if configured else ROOT / ".venv"


def get_interpreter(venv: Path) -> Path:
    """Return the path of a virtual environment's interpreter."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def build_environment(comfyui: Path | None) -> dict[str, str]:
    """Copy the caller's environment variables without those that make Python import from elsewhere."""
    excluded = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH")
    variables = {name: value for name, value in os.environ.items() if name not in excluded}
    variables["PYTHONNOUSERSITE"] = "1"
    if comfyui:
        variables["COMFYUI_DIR"] = str(comfyui)
    return variables


def refuse_foreign_venv(venv: Path) -> None:
    """Raise SetupError for an environment that run.py did not create, because installing would change it."""
    created_here = venv == ROOT / ".venv" or (venv / STAMP).exists()
    if created_here or not venv.exists() or (venv.is_dir() and not any(venv.iterdir())):
        return
    raise SetupError(
        f"AUDIOX_VENV is {venv}, which run.py did not create. Installing there could replace its torch and "
        "other packages, so nothing was changed. Set AUDIOX_VENV to a new or empty folder. To use this "
        "environment as it is, run the command with its Python: `python -m pytest tests` or "
        "`python -m tools.demo`."
    )


def install(venv: Path, files: list[Path]) -> None:
    """Install requirements files into the environment, and create it first if it does not start."""
    if not can_run_pip(venv):
        create_venv(venv)
    write_stamp(venv, None)
    if not run_pip(venv, files):
        advice = f"Check network and disk space and start again, or delete {venv} first."
        raise SetupError(f"pip could not install the requirements; its output is above. {advice}")


def create_venv(venv: Path) -> None:
    """Create a virtual environment, replacing a broken one."""
    if subprocess.call([sys.executable, "-m", "venv", "--clear", str(venv)], cwd=ROOT) != 0:
        raise SetupError("Python could not create a virtual environment. Debian: apt install python3-venv")


def run_pip(venv: Path, files: list[Path]) -> bool:
    """Install requirements files with pip; returns whether it succeeded."""
    command = [str(get_interpreter(venv)), "-m", "pip", "install", "--disable-pip-version-check"]
    command += ["--no-compile", "--progress-bar", "off", "-c", str(CONSTRAINTS)]
    for file in files:
        command += ["-r", str(file)]
    return subprocess.call(command, cwd=ROOT, env=build_environment(None)) == 0


def can_run_pip(venv: Path) -> bool:
    """Return whether the environment has a working Python with pip."""
    return succeeds([str(get_interpreter(venv)), "-m", "pip", "--version"])


def has_packages(venv: Path, requirements: list[str]) -> bool:
    """Return whether the environment has every package that the requirement lines name."""
    names = [re.split(r"[<>=!~;\[ ]", line)[0] for line in requirements]
    code = "import sys; from importlib.metadata import version; [version(name) for name in sys.argv[1:]]"
    return succeeds([str(get_interpreter(venv)), "-c", code, *names])


def succeeds(command: list[str]) -> bool:
    """Run a command silently and return whether it exists and succeeds."""
    try:
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=build_environment(None))
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def read_stamp(venv: Path) -> str | None:
    """Read the fingerprint of the installed requirements; None if an installation was never completed."""
    try:
        return json.loads((venv / STAMP).read_text(encoding="utf-8"))["requirements"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_stamp(venv: Path, fingerprint: str | None) -> None:
    """Mark an environment as created by run.py; None means that its installation is not complete."""
    (venv / STAMP).write_text(json.dumps({"requirements": fingerprint}), encoding="utf-8")


def read_lines(file: Path) -> list[str]:
    """Read the lines of a requirements file without comments."""
    return [line.split("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines()]


def run_demo(arguments: list[str]) -> int:
    """Make sounds with the small model that is part of the repository."""
    python = set_up(find_comfyui())
    # The working directory stays the caller's, so that relative paths among the arguments keep their meaning.
    # Running a file instead of a module (-m) keeps that directory off Python's import path.
    variables = {**build_environment(None), "PYTHONPATH": str(ROOT)}
    return subprocess.call([str(python), str(ROOT / "tools" / "demo.py"), *arguments], env=variables)


def run_tests(arguments: list[str]) -> int:
    """Run lint, type checks and tests; all of them, even if one fails."""
    comfyui = find_comfyui()
    python, variables = set_up(comfyui), build_environment(comfyui)
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process of the tests compiles torch
    if comfyui is None:
        show("\nNO COMFYUI FOUND: tests that need it are skipped. Set COMFYUI_DIR to a checkout to run them.")
    type_check_folder = create_type_check_folder(python)
    if type_check_folder:
        variables["MYPYPATH"] = str(type_check_folder)
    names_tests = any((ROOT / word.split("::")[0]).exists() for word in arguments if not word.startswith("-"))
    if not names_tests:
        # More threads than cores would only wait for each other.
        variables.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) // 2)))
    checks = list_static_checks(with_nodes=type_check_folder is not None)
    checks["pytest"] = ["-m", "pytest", *([] if names_tests else ["tests", *PARALLEL]), *arguments]

    lines, failed = [], False
    for name, command in checks.items():
        show(f"\n== {name}")
        started = time.monotonic()
        status = subprocess.call([str(python), *command], cwd=ROOT, env=variables)
        failed |= status != 0
        lines.append(f"{'FAILED' if status else 'passed':8}{name:22}{time.monotonic() - started:8.1f} s")
    show("\n" + "\n".join(lines))
    return int(failed)


def list_static_checks(*, with_nodes: bool) -> dict[str, list[str]]:
    """List the checks that read the code without running it, as arguments for the interpreter."""
    checks = {
        "ruff check": ["-m", "ruff", "check", "."],
        "ruff format": ["-m", "ruff", "format", "--check", "."],
        "codespell": ["-m", "codespell_lib"],
    }
    if "[tool.importlinter]" in (ROOT / "pyproject.toml").read_text(encoding="utf-8"):
        checks["import-linter"] = ["-c", "from importlinter.cli import lint_imports_command as run; run()"]
    checks["mypy (engine, tools)"] = ["-m", "mypy"]
    if with_nodes:
        # A cache of its own: the two runs would overwrite each other's results.
        arguments = ["--cache-dir", ".mypy_cache/nodes", "--follow-imports", "silent"]
        checks["mypy (nodes)"] = ["-m", "mypy", *arguments, "-p", f"{PACKAGE}.nodes"]
    return checks


def create_type_check_folder(python: Path) -> Path | None:
    """Create a folder in which the pack is a package with a fixed name; None if links are not allowed.

    The nodes import the engine relatively (`from ..audiox_ext`), so mypy must see them inside a package. The
    name of the pack's own folder need not be a valid package name.
    """
    folder = python.parents[1] / "types"
    folder.mkdir(exist_ok=True)
    return folder if link_pack(folder / PACKAGE) else None


def link_pack(path: Path) -> bool:
    """Make `path` a link to this folder; returns False if the system does not allow links."""
    if path.resolve() == ROOT:
        return True
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    try:
        path.symlink_to(ROOT, target_is_directory=True)
    except OSError:
        return False
    return True


def run_comfyui(arguments: list[str]) -> int:
    """Start ComfyUI with this pack, without changing the checkout."""
    comfyui = find_comfyui(prefer_enclosing=True)
    if comfyui is None:
        address = "https://github.com/comfyanonymous/ComfyUI"
        raise SetupError(f"No ComfyUI was found. Get it from {address} and set COMFYUI_DIR to its folder.")
    python = set_up(comfyui)
    command = [str(python), str(comfyui / "main.py")]
    if any(entry.resolve() == ROOT for entry in (comfyui / "custom_nodes").glob("*")):
        show(f"Starting {comfyui}, where this pack is installed.")
    else:
        base = prepare_base_directory(comfyui)
        show(f"Starting {comfyui} with this pack. Input, output and settings are in {base}.")
        show(f"Put models into {base / 'models'} or {comfyui / 'models'}.")
        command += ["--base-directory", str(base), "--extra-model-paths-config", str(base / "models.yaml")]
        command += ["--database-url", f"sqlite:///{(base / 'user' / 'comfyui.db').as_posix()}"]
    if "--cpu" not in arguments:
        explanation = explain_missing_gpu(python)
        if explanation:
            show(f"{explanation} Starting with --cpu.")
            command.append("--cpu")
    return subprocess.call([*command, *arguments], cwd=comfyui, env=build_environment(comfyui))


def prepare_base_directory(comfyui: Path) -> Path:
    """Create a base directory for ComfyUI outside its checkout, with the pack and a film to try."""
    base = ROOT / ".comfyui"
    for name in ("custom_nodes", "models/audiox", "input", "output", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    if not link_pack(base / "custom_nodes" / "audiox"):
        # Windows without developer mode allows no links: copy the pack at each start.
        skip = shutil.ignore_patterns(".*", "tests", "demo_output", "__pycache__")
        shutil.copytree(ROOT, base / "custom_nodes" / "audiox", ignore=skip, dirs_exist_ok=True)
    folders = sorted(entry.name for entry in (comfyui / "models").glob("*") if entry.is_dir())
    paths = "".join(f"  {name}: {json.dumps('models/' + name)}\n" for name in folders)
    text = f"checkout:\n  base_path: {json.dumps(str(comfyui))}\n{paths}"
    (base / "models.yaml").write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "examples" / "pocket_film.mp4", base / "input")
    return base


def explain_missing_gpu(python: Path) -> str:
    """Say why torch cannot use a GPU and what to do about it; empty if it can use one."""
    code = (
        "import torch; v = torch.version; backend = v.cuda or getattr(v, 'hip', None) or "
        "getattr(v, 'xpu', None) or torch.backends.mps.is_built(); "
        "print('gpu' if torch.accelerator.is_available() else 'none' if backend else 'cpu-build')"
    )
    command = [str(python), "-c", code]
    variables = build_environment(None)
    answer = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=variables
    ).stdout.strip()
    if answer == "gpu":
        return ""
    if answer != "cpu-build":
        return "torch finds no GPU."
    versions = " ".join(line for line in read_lines(CONSTRAINTS) if line.startswith("torch"))
    return (
        f"The torch in {python.parents[1]} is built for the CPU only; for Windows, the package index has no "
        "other build. To use a GPU, find the --index-url for your card at "
        "https://pytorch.org/get-started/locally and install the same versions from it (run.py keeps them):\n"
        f"  {python} -m pip install --force-reinstall --no-deps {versions} --index-url ADDRESS\n"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
