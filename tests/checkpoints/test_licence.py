"""The licence gate: which models need the opt-in, and what happens without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoint_copies import folders

from audiox_ext.checkpoints import pretrained as pretrained_module
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.errors import LicenseError
from audiox_ext.license import is_non_commercial


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, True),
        ("", True),
        ("cc-by-nc-4.0", True),
        ("CC BY-NC 4.0", True),
        ("CC_BY_NC_SA", True),
        ("non-commercial", True),
        ("MIT", False),
        ("apache-2.0", False),
        ("CC-BY-4.0", False),
        ("cc by sa 4.0", False),
        ("other", True),
        ("unknown", True),
        ("research-only", True),
        ("CC-BYNC-4.0", True),
    ],
)
def test_only_free_licences_need_no_opt_in(name: str | None, expected: bool) -> None:
    assert is_non_commercial(name) == expected


def test_weights_of_unknown_origin_need_the_opt_in(copy_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy_of("maf")
    with pytest.raises(
        LicenseError, match=r"(?s)forbids commercial use.*accept_cc_by_nc.*SelVA.*Nothing was loaded"
    ):
        get_pretrained_model(folder)
    monkeypatch.setenv("AUDIOX_ACCEPT_CC_BY_NC", "0")
    with pytest.raises(LicenseError):
        get_pretrained_model(folder)
    monkeypatch.setenv("AUDIOX_ACCEPT_CC_BY_NC", "1")
    get_pretrained_model(folder)


def test_the_licence_decides_not_the_folders_name(copy_of: Any) -> None:
    folder = copy_of("maf")
    folder = folder.rename(folder.parent / "AudioX-MAF")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "license": "MIT"}))
    get_pretrained_model(folder)
    (folder / "config.json").write_text(json.dumps({**config, "license": "cc-by-nc-4.0"}))
    with pytest.raises(LicenseError):
        get_pretrained_model(folder)


def test_nothing_is_downloaded_without_the_opt_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[str] = []
    monkeypatch.setattr(
        pretrained_module, "download_repository", lambda repository, *_: requests.append(repository)
    )
    for name in ("AudioX-Turbo", "HKUSTAudio/AudioX", "someone/unknown"):
        with pytest.raises(LicenseError):
            get_pretrained_model(name, folders=folders(tmp_path))
    assert requests == []
    assert list(tmp_path.iterdir()) == []
