"""Fixtures that several test files share."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import scheduling
from golden_cases import golden_path
from torch_threads import single_thread

from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.model import AudioXModel
from tools.random_checkpoint import write_tiny_checkpoint


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start what takes longest first where several processes share the tests."""
    if hasattr(config, "workerinput"):
        scheduling.start_longest_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object | None:
    """Keep tests with shared fixtures in one process, under --dist loadfile."""
    return scheduling.build_scheduler(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List why tests were skipped, one line per reason with their number, so that no gap goes unnoticed."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    if reasons:
        terminalreporter.section("skipped tests")
    for reason, count in reasons.most_common():
        terminalreporter.line(f"{count:5}  {reason}")


@pytest.fixture(scope="session")
def golden_model() -> Callable[[str], AudioXModel]:
    """The golden checkpoint of a kind, loaded once."""
    models: dict[str, AudioXModel] = {}

    def load(kind: str) -> AudioXModel:
        if kind not in models:
            models[kind] = get_pretrained_model(golden_path(kind), accept_cc_by_nc=True)[0]
        return models[kind]

    return load


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A tiny random checkpoint of a kind, written once. Do not change it."""
    root = tmp_path_factory.mktemp("models")

    def write(kind: str) -> Path:
        folder = root / kind
        return folder if folder.is_dir() else write_tiny_checkpoint(folder, kind)

    return write


@pytest.fixture(scope="session")
def comfyui_dir() -> Path:
    """The ComfyUI to test with: $COMFYUI_DIR, ~/ComfyUI, or the one whose custom_nodes holds this pack."""
    named = os.environ.get("COMFYUI_DIR")
    places = [Path(named)] if named else [Path.home() / "ComfyUI", Path(__file__).parents[3]]
    for place in places:
        if (place / "main.py").is_file() and (place / "comfy").is_dir():
            return place.resolve()
    pytest.skip(f"NO COMFYUI in {' or '.join(map(str, places))}: set COMFYUI_DIR to test the nodes for real")


@pytest.fixture(autouse=True)
def no_licence_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests decide about the opt-in themselves."""
    monkeypatch.delenv("AUDIOX_ACCEPT_CC_BY_NC", raising=False)
    monkeypatch.delenv("AUDIOX_DISABLE", raising=False)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For files that train tiny models. Session fixtures are set up before it."""
    with single_thread():
        yield


@pytest.fixture
def quick_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit the classifiers of measuring commands to few sounds; their accuracy is not tested here."""
    from pocket.metrics.classifier import train_classifier

    monkeypatch.setattr(
        "benchmarks.quality.evaluation.train_classifier", partial(train_classifier, examples=6)
    )
