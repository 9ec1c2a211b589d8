"""The public names of the package: they resolve, are documented, and cost nothing to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import audiox_ext

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", audiox_ext.__all__)
def test_every_public_name_resolves(name: str) -> None:
    value = getattr(audiox_ext, name)
    assert not isinstance(value, ModuleType)
    if name != "__version__":
        assert value.__name__ == name
        assert value.__doc__, f"{name} has no docstring"


def test_the_public_names_are_complete() -> None:
    expected = """
        AudioEdit AudioRequest AudioXError AudioXModel CheckpointError ConfigError GenerationSettings
        InputError LicenseError Lora MediaError ModelFolders ModelNotFoundError Region TrainingError
        VideoFeatures __version__ extract_video_features generate_diffusion_cond get_pretrained_model
        make_audio read_audio read_lora set_loras write_audio
    """
    assert audiox_ext.__all__ == expected.split()
    assert set(audiox_ext.__all__) <= set(dir(audiox_ext))


def test_type_checkers_and_the_interpreter_find_the_same_names() -> None:
    tree = ast.parse(Path(audiox_ext.__file__).read_text(encoding="utf-8"))
    block = next(statement for statement in tree.body if isinstance(statement, ast.If))
    imports = {
        alias.asname: f".{statement.module}"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert imports == audiox_ext._MODULES


def test_star_import_gives_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from audiox_ext import *", names)
    assert set(audiox_ext.__all__) <= set(names)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'audiox_ext' has no attribute 'get_pretrained_modell'"):
        audiox_ext.get_pretrained_modell  # noqa: B018


@pytest.mark.parametrize("statement", ["import audiox_ext", "from audiox_ext import InputError"])
def test_importing_the_package_imports_no_torch(statement: str) -> None:
    code = f"import sys; {statement}; print({{'torch', 'numpy', 'transformers'}} & set(sys.modules))"
    call = [sys.executable, "-c", code]
    result = subprocess.run(call, capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "set()"
