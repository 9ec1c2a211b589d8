"""All example workflows."""

from __future__ import annotations

from .from_sound import FROM_SOUND
from .from_text_and_video import FROM_TEXT_AND_VIDEO
from .pocket_twins import TWINS

WORKFLOWS = (*FROM_TEXT_AND_VIDEO, *FROM_SOUND, *TWINS)
