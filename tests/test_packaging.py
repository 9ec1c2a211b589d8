"""The package matches its description: metadata, dependencies, cheap imports.

Needs neither torch nor ComfyUI.
"""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import run

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
BROUGHT_BY_COMFYUI = set(
    "av einops huggingface-hub numpy pillow safetensors scipy sentencepiece tokenizers torch torchaudio "
    "torchsde torchvision tqdm transformers".split()
)


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements(file: str) -> list[str]:
    lines = (line.split("#")[0].strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def bare_name(requirement: str) -> str:
    return re.split(r"[<>=!~;\[ ]", requirement)[0].lower().replace("_", "-")


def pack_files(*suffixes: str) -> list[Path]:
    """The repository's own files: what git tracks or would; without git all but hidden and made ones."""
    call = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(call, capture_output=True, check=True).stdout.decode().split("\0")
        files = [ROOT / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        generated = {"demo_output", "build", "dist", "__pycache__"}
        files = [
            path
            for path in ROOT.rglob("*")
            if not any(part in generated or part.startswith(".") for part in path.relative_to(ROOT).parts)
        ]
    return [path for path in files if path.suffix in suffixes and path.is_file()]


def fresh_python(code: str) -> str:
    """What `code` prints in a new interpreter started in the root."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    call = [sys.executable, "-c", code]
    return subprocess.run(call, capture_output=True, text=True, check=True, env=env, cwd=ROOT).stdout.strip()


def test_requirements_hold_no_pins_and_nothing_that_comfyui_brings() -> None:
    for line in requirements("requirements.txt"):
        assert "==" not in line, line
        assert bare_name(line) not in BROUGHT_BY_COMFYUI, line


def test_little_is_installed_by_default(pyproject: dict[str, Any]) -> None:
    dependencies = pyproject["project"]["dependencies"]
    assert dependencies == requirements("requirements.txt")
    assert {bare_name(name) for name in dependencies} == {"pyloudnorm"}


def test_the_name_follows_the_registrys_rules(pyproject: dict[str, Any]) -> None:
    name = pyproject["project"]["name"]
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]{0,98}", name)
    assert "comfyui" not in name.lower()
    assert name != "audiox"  # used by another project on the package index
    assert pyproject["tool"]["comfy"]["PublisherId"]


def test_all_places_name_the_same_version(pyproject: dict[str, Any]) -> None:
    version = pyproject["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\d+\.\d+\.\d+)", changelog, flags=re.MULTILINE)
    assert newest is not None
    assert newest[1] == version
    assert fresh_python("import audiox_ext; print(audiox_ext.__version__)") == version


def test_the_lists_of_dependencies_agree(pyproject: dict[str, Any]) -> None:
    extras = pyproject["project"]["optional-dependencies"]
    expected = list(pyproject["project"]["dependencies"])
    for extra in ("standalone", "train", "pocket", "test"):
        expected += extras[extra]
    assert sorted(requirements("requirements-dev.txt")) == sorted(expected)
    assert {bare_name(name) for name in extras["standalone"]} <= BROUGHT_BY_COMFYUI
    assert "audiox" not in {bare_name(name) for name in extras["upstream"]}


def test_the_console_script_exists(pyproject: dict[str, Any]) -> None:
    module, function = pyproject["project"]["scripts"]["audiox"].split(":")
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_pytest_knows_the_same_markers_from_both_configurations(pyproject: dict[str, Any]) -> None:
    ini = (ROOT / "tests" / "pytest.ini").read_text(encoding="utf-8")
    for marker in pyproject["tool"]["pytest"]["ini_options"]["markers"]:
        assert marker in ini


def test_run_py_needs_only_the_standard_library() -> None:
    tree = ast.parse((ROOT / "run.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "run.py imports a module of the pack"
            names = [node.module or ""]
        for name in names:
            assert name.split(".")[0] in sys.stdlib_module_names | {"__future__"}, name


@pytest.mark.parametrize("arguments", [["--help"], [], ["nonsense"]])
def test_run_py_explains_itself(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "run.py"), *arguments], capture_output=True, text=True)
    assert "jobs:" in done.stdout
    assert done.returncode == (0 if arguments == ["--help"] else 2)


@pytest.fixture
def checkouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two ComfyUI checkouts: one in the home folder, one with this pack's run.py in its custom_nodes."""
    home, around = tmp_path / "home" / "ComfyUI", tmp_path / "around"
    for checkout in (home, around):
        (checkout / "comfy").mkdir(parents=True)
        (checkout / "main.py").touch()
        (checkout / "requirements.txt").touch()
    monkeypatch.delenv("COMFYUI_DIR", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setattr(run, "__file__", str(around / "custom_nodes" / "pack" / "run.py"))
    return home, around


def test_which_comfyui_is_taken(checkouts: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    home, around = checkouts
    assert run.find_comfyui() == home.resolve()
    assert run.find_comfyui(prefer_enclosing=True) == around.resolve()
    (home / "main.py").unlink()
    assert run.find_comfyui() == around.resolve()
    monkeypatch.setenv("COMFYUI_DIR", str(home))
    with pytest.raises(run.SetupError, match=r"no main\.py"):
        run.find_comfyui()


def test_half_a_comfyui_is_refused(checkouts: tuple[Path, Path]) -> None:
    (checkouts[0] / "requirements.txt").unlink()
    with pytest.raises(run.SetupError, match=r"no requirements\.txt"):
        run.find_comfyui()


def test_an_environment_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    run.refuse_foreign_venv(tmp_path / "new")
    run.refuse_foreign_venv(tmp_path)  # empty
    (tmp_path / "pyvenv.cfg").touch()
    with pytest.raises(run.SetupError, match=r"run\.py did not create"):
        run.refuse_foreign_venv(tmp_path)
    run.write_stamp(tmp_path, None)  # what an interrupted installation leaves
    run.refuse_foreign_venv(tmp_path)
    assert run.read_stamp(tmp_path) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["-o", "a.mp4"], ["--output=a.mp4"], ["--outp", "a"], ["--batch", "2"]]
)
def test_the_demo_refuses_what_would_write_other_files(arguments: list[str], tmp_path: Path) -> None:
    # Modules in the caller's folder must not shadow those of the demo.
    for name in ("tools", "audiox_ext", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken from the caller')")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    call = [sys.executable, str(ROOT / "tools" / "demo.py"), "--out", str(tmp_path / "out"), *arguments]
    done = subprocess.run(call, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot be used here" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt", reason="needs bash")
def test_ci_calls_the_documented_command() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "run.py test" in script.read_text(encoding="utf-8")
    assert "python3 run.py test" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_importing_the_engine_is_cheap() -> None:
    heavy = ["torch", "numpy", "transformers", "av", "scipy", "comfy"]
    code = f"import sys, audiox_ext; print([name for name in {heavy} if name in sys.modules])"
    assert fresh_python(code) == "[]"


def test_the_engine_names_no_module_of_comfyui() -> None:
    foreign = {
        "comfy",
        "comfy_api",
        "comfy_extras",
        "folder_paths",
        "server",
        "execution",
        "nodes",
        "torchaudio",
        "torchvision",
    }
    for path in (ROOT / "audiox_ext").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] not in foreign | {"audiox_ext"}, (
                    f"{path.name}:{node.lineno} imports {name}"
                )


def test_no_file_names_a_place_outside_the_repository() -> None:
    outside = ["/".join(parts) for parts in (("", "work", "shared"), ("..", "shared"), ("", "work", "main"))]
    suffixes = (".py", ".md", ".txt", ".toml", ".ini", ".json", ".yaml", ".yml", ".js", "")
    for path in pack_files(*suffixes):
        text = path.read_text(encoding="utf-8", errors="replace")
        for place in outside:
            assert place not in text, f"{path.relative_to(ROOT)} mentions {place}"


def test_no_large_or_generated_file_is_part_of_the_repository() -> None:
    for path in pack_files(".mp4", ".wav", ".ckpt", ".pth", ".safetensors", ".png", ".pt"):
        inside = path.relative_to(ROOT)
        if inside.parts[:2] == ("audiox_ext", "models"):
            continue  # see below
        of_training = inside.parts[:2] == ("pocket", "weights")
        limit = 16 if inside.parts[:2] == ("tests", "golden") else 8 if of_training else 2
        assert path.stat().st_size < limit * 2**20, f"{inside} is larger than {limit} MiB"
