"""Fixtures that tests of media share."""

from __future__ import annotations

import pytest
from videos import frame_times, video_bytes


@pytest.fixture(scope="session")
def clip() -> bytes:
    """3 s at 30 fps, 64 x 48, mp4."""
    return video_bytes(frame_times(90, 30))
