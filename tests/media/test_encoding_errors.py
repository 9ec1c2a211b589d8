"""An output that cannot be encoded is not blamed on the disk, and a full disk is."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from audiox_ext.errors import MediaError
from audiox_ext.media.encoding import open_output


def test_content_that_a_format_refuses_is_blamed_on_the_format(tmp_path: Path) -> None:
    import av

    message = r"x\.webm cannot be encoded as webm \(Invalid argument.*\)\. Choose another format, such as"
    with pytest.raises(MediaError, match=message), open_output(tmp_path / "x.webm", "webm"):
        av.error.err_check(-errno.EINVAL)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_blamed_on_the_disk(tmp_path: Path) -> None:
    import av

    with (
        pytest.raises(MediaError, match=r"The disk of .*x\.wav is full \(No space left on device\)"),
        open_output(tmp_path / "x.wav", "wav"),
    ):
        av.error.err_check(-errno.ENOSPC)
    assert list(tmp_path.iterdir()) == []
