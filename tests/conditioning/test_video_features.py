"""Video features match their source, and the cache is never wrong and never stops a run."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import videos
from torch import Tensor
from videos import code_picture, frame_times, read_code

from audiox_ext.conditioning.feature_cache import (
    FeatureCache,
    _file_digest,
    pack_features,
    read_features,
    unpack_features,
)
from audiox_ext.conditioning.video_features import VideoFeatures, extract_video_features
from audiox_ext.errors import InputError
from audiox_ext.media.frames import ImageSequence, TimeRange


class FakeSync:
    """Stands in for Synchformer and records its input."""

    def __init__(self) -> None:
        self.calls: list[Tensor] = []

    def __call__(self, frames: Tensor) -> Tensor:
        self.calls.append(frames)
        return torch.arange(240.0)[None, :, None].expand(1, -1, 16) / 240


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """4 s at 25 fps."""
    path = tmp_path / "video.mp4"
    videos.write_video(path, frame_times(100, 25))
    return path


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


def extract(source: Any, cache: FeatureCache | None = None, **settings: Any) -> VideoFeatures:
    settings = {"encode_sync": FakeSync(), "sync_fingerprint": "weights", "seconds": 2} | settings
    return extract_video_features(source, cache=cache, **settings)


def entries(cache: FeatureCache) -> list[Path]:
    return sorted(cache.folder.glob("*"))


def same(a: VideoFeatures | None, b: VideoFeatures) -> bool:
    assert a is not None
    sync = a.sync is b.sync is None or (
        a.sync is not None and b.sync is not None and torch.equal(a.sync, b.sync)
    )
    return torch.equal(a.frames, b.frames) and sync and (a.duration, a.fps) == (b.duration, b.fps)


# --- extraction


def test_features_have_the_shapes_and_times_of_the_models(video: Path) -> None:
    encode = FakeSync()
    features = extract(video, encode_sync=encode, seconds=10, time_range=TimeRange(start=1.0))
    assert features.frames.shape == (50, 3, 224, 224)
    assert features.frames.dtype == torch.uint8
    assert [read_code(frame) for frame in features.frames] == [*range(25, 100, 5), *[99] * 35]
    assert features.sync is not None
    assert features.sync.shape == (1, 240, 16)
    assert features.duration == pytest.approx(3.0, abs=1e-3)
    assert features.fps == 25
    (call,) = encode.calls
    assert call.shape == (1, 250, 3, 224, 224)
    assert call.dtype == torch.float32
    assert (call.min().item(), call.max().item()) == (
        pytest.approx(-1, abs=0.05),
        pytest.approx(1, abs=0.05),
    )
    bytes_again = ((call[0, ::5] * 0.5 + 0.5) * 255).round().to(torch.uint8)
    assert torch.equal(bytes_again, features.frames)


def test_without_an_encoder_only_the_slow_rate_is_sampled(video: Path) -> None:
    features = extract(video, encode_sync=None)
    assert features.sync is None
    assert features.video_prompt().keys() == {"video_tensors"}


def test_the_video_prompt_has_the_published_form(video: Path) -> None:
    prompt = extract(video).video_prompt()
    assert prompt["video_tensors"].shape == (1, 10, 3, 224, 224)
    assert prompt["video_tensors"].dtype == torch.float32
    assert prompt["video_tensors"].max() > 200  # 0..255, not 0..1
    assert prompt["video_sync_frames"].shape == (1, 240, 16)


def test_images_give_the_features_of_the_same_video(video: Path) -> None:
    pictures = torch.stack([torch.from_numpy(code_picture(i, 64, 48)) for i in range(100)]).float() / 255
    from_images, from_file = extract(ImageSequence(pictures, 25)), extract(video)
    assert [read_code(f) for f in from_images.frames] == [read_code(f) for f in from_file.frames]
    assert from_images.duration == pytest.approx(from_file.duration, abs=1e-3)
    trimmed = extract(ImageSequence(pictures, 25), trim=(1.0, 0.5))
    assert [read_code(frame) for frame in trimmed.frames] == [25, 30, 35, *[37] * 7]


def test_a_short_video_repeats_its_last_frame_with_a_warning(
    cache: FeatureCache, caplog: pytest.LogCaptureFixture
) -> None:
    one = ImageSequence(torch.rand(1, 8, 8, 3), 25)
    for _ in range(2):  # from the cache, too
        features = extract(one, cache, encode_sync=None, time_range=TimeRange(duration=60), seconds=60)
        assert features.frames.shape[0] == 300
        assert bool((features.frames == features.frames[0]).all())
        assert "only 0.04 s of the requested 60.00 s" in caplog.text
        caplog.clear()
    extract(one, encode_sync=None, time_range=TimeRange(duration=0.1))
    assert not caplog.text


def test_a_sync_encoder_of_another_shape_is_refused(video: Path) -> None:
    with pytest.raises(InputError, match=r"\(240, 16\)"):
        extract(video, encode_sync=lambda _: torch.zeros(240, 16))


# --- the cache


def test_a_second_run_decodes_nothing_and_returns_the_same_features(video: Path, cache: FeatureCache) -> None:
    first = extract(video, cache)
    encode, frames = FakeSync(), []
    again = extract(video, cache, encode_sync=encode, check_cancelled=lambda: frames.append(1))
    assert same(again, first)
    assert not encode.calls
    assert not frames
    assert len(entries(cache)) == 1


def test_the_name_of_a_video_does_not_matter(video: Path, cache: FeatureCache) -> None:
    copy = video.with_name("copy.mp4")
    copy.write_bytes(video.read_bytes())
    for source in (video, str(copy), io.BytesIO(video.read_bytes())):
        extract(source, cache)
    assert len(entries(cache)) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "other",
    [
        {"time_range": TimeRange(start=0.5)},
        {"time_range": TimeRange(duration=0.5)},
        {"trim": (0.5, 0.0)},
        {"trim": (0.0, 0.5)},
        {"video_fps": 8},
        {"sync_fps": 24},
        {"seconds": 3},
        {"resize": "crop"},
        {"sync_fingerprint": "other weights"},
        {"encode_sync": None},
    ],
    ids=str,
)
def test_every_setting_makes_another_entry(video: Path, cache: FeatureCache, other: dict[str, Any]) -> None:
    extract(video, cache)
    assert not same(
        extract(video, cache, **other),
        VideoFeatures(frames=torch.zeros(1, 3, 1, 1, dtype=torch.uint8), sync=None, duration=0, fps=0),
    )
    assert len(entries(cache)) == 2


def test_without_a_fingerprint_sync_features_are_not_cached(video: Path, cache: FeatureCache) -> None:
    extract(video, cache, sync_fingerprint="")
    assert not entries(cache)
    extract(video, cache, sync_fingerprint="", encode_sync=None)
    assert len(entries(cache)) == 1


def test_a_changed_file_is_another_video(video: Path, cache: FeatureCache) -> None:
    first = extract(video, cache)
    videos.write_video(video, frame_times(100, 25), picture=lambda i, w, h: code_picture(i + 100, w, h))
    assert not torch.equal(extract(video, cache).frames, first.frames)


def test_images_are_distinguished_by_content_and_rate(cache: FeatureCache) -> None:
    images = torch.rand(4, 16, 16, 3)
    other = images.clone()
    other[2, 3, 3, 1] += 0.01
    keys = {
        cache.key(ImageSequence(*args), (), "")
        for args in ((images, 5), (other, 5), (images, 6), (images[:3], 5))
    }
    assert len(keys) == 4
    assert cache.key(ImageSequence(images.clone(), 5), (), "") in keys


def test_a_file_is_hashed_once(video: Path, cache: FeatureCache) -> None:
    _file_digest.cache_clear()
    for _ in range(3):
        cache.key(video, (), "")
    assert _file_digest.cache_info().misses == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "noise", "version", "foreign"])
def test_damaged_entries_are_extracted_again(
    video: Path, cache: FeatureCache, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = extract(video, cache)
    (path,) = entries(cache)
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    header = json.dumps({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    path.write_bytes(
        {
            "cut": data[:-1],
            "empty": b"",
            "flipped": bytes(flipped),
            "noise": os.urandom(1000),
            "version": data.replace(rb"\"format\": 2", rb"\"format\": 1"),
            "foreign": len(header).to_bytes(8, "little") + header + b"\0",
        }[damage]
    )
    encode = FakeSync()
    assert same(extract(video, cache, encode_sync=encode), first)
    assert len(encode.calls) == 1
    assert "Extracting them again" in caplog.text
    assert same(extract(video, cache, encode_sync=encode), first)
    assert len(encode.calls) == 1  # the new entry is whole


def make(size: int = 1000) -> VideoFeatures:
    return VideoFeatures(
        frames=torch.zeros(size, 1, 1, 1, dtype=torch.uint8), sync=None, duration=1.0, fps=math.pi
    )


def test_the_least_recently_used_entry_goes_first(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, limit_bytes=4000)  # three entries of about 1.2 kB
    for age, key in enumerate("abc"):
        cache.put(key, make())
        os.utime(tmp_path / f"{key}.safetensors", ns=(age * 10**9, age * 10**9))
    assert same(cache.get("a"), make())  # used, so that b is now the oldest
    cache.put("d", make())
    assert {path.stem for path in tmp_path.iterdir()} == {"a", "c", "d"}
    cache.put("e", make(5000))  # alone beyond the limit
    assert not list(tmp_path.iterdir())


def test_leftovers_of_a_crash_are_deleted(tmp_path: Path) -> None:
    old, new = tmp_path / "old.partial", tmp_path / "new.partial"
    for path in (old, new):
        path.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    FeatureCache(tmp_path).put("a", make())
    assert {path.name for path in tmp_path.iterdir()} == {"a.safetensors", "new.partial"}


def test_a_cache_that_cannot_be_written_is_only_a_warning(
    video: Path, cache: FeatureCache, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.folder.write_text("a file where the folder should be")
    assert extract(video, cache).frames.shape[0] == 10
    assert "not cached" in caplog.text
    cache.folder.unlink()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    caplog.clear()
    monkeypatch.setattr("os.replace", full_disk)
    assert extract(video, cache).frames.shape[0] == 10
    assert "No space left" in caplog.text
    assert not entries(cache)


def test_errors_of_the_video_pass_through_the_cache(cache: FeatureCache, tmp_path: Path) -> None:
    for source, message in (
        (tmp_path / "missing.mp4", "no file"),
        (io.BytesIO(b""), "empty"),
        (None, "NoneType"),
    ):
        with pytest.raises(InputError, match=message):
            extract(source, cache)


HAMMER = """
import sys
from pathlib import Path
import torch
from audiox_ext.conditioning.feature_cache import FeatureCache
from audiox_ext.conditioning.video_features import VideoFeatures

cache, seed = FeatureCache(Path(sys.argv[1]), limit_bytes=200_000), int(sys.argv[2])
for step in range(60):
    value, other = (seed + step) % 8, (seed + step + 3) % 8
    frames = torch.full((30_000, 1, 1, 1), value, dtype=torch.uint8)
    cache.put(f"key{value}", VideoFeatures(frames=frames, sync=None, duration=1.0, fps=1.0))
    entry = cache.get(f"key{other}")
    assert entry is None or entry.frames.unique().tolist() == [other]
"""


@pytest.mark.slow
def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, str(tmp_path), seed], cwd=root, stderr=subprocess.PIPE
        )
        for seed in ("0", "5")
    ]
    for run in runs:
        _, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors.decode()
        assert b"damaged" not in errors
    assert not list(tmp_path.glob("*.partial"))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 200_000 + 31_000


def test_equal_features_are_equal_files() -> None:
    assert len({pack_features(make()) for _ in range(8)}) == 1


MUTATIONS: dict[str, Any] = {
    "frames": torch.ones(5, 3, 4, 4, dtype=torch.uint8),
    "sync": torch.ones(1, 8, 2),
    "duration": 1.5,
    "fps": 24.0,
}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(VideoFeatures)])
def test_a_file_with_another_value_of_any_field_is_refused(name: str) -> None:
    frames = torch.zeros(5, 3, 4, 4, dtype=torch.uint8)
    features = VideoFeatures(frames=frames, sync=torch.zeros(1, 8, 2), duration=1.0, fps=25.0)
    original = pack_features(features)
    other = pack_features(dataclasses.replace(features, **{name: MUTATIONS[name]}))
    # The changed file, with the digest of the original one.
    digests = [re.search(rb"digest[^0-9a-f]+([0-9a-f]{64})", data)[1] for data in (original, other)]
    assert digests[0] != digests[1]
    with pytest.raises(ValueError, match="content has changed"):
        unpack_features(other.replace(digests[1], digests[0]))


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, True, "1", None])
@pytest.mark.parametrize("name", ["duration", "fps"])
def test_numbers_that_features_cannot_have_are_refused(name: str, value: Any) -> None:
    values = {"frames": MUTATIONS["frames"], "sync": None, "duration": 1.0, "fps": 25.0, name: value}
    with pytest.raises(InputError, match=f"The {name} of the features is"):
        VideoFeatures(**values)


@pytest.mark.parametrize("kind", [torch.int8, torch.int64, torch.bool, torch.complex64, torch.float32])
def test_frames_of_another_type_are_refused(kind: torch.dtype) -> None:
    with pytest.raises(InputError, match=r"The frames of the features are torch\."):
        VideoFeatures(frames=torch.zeros(5, 3, 4, 4, dtype=kind), sync=None, duration=1.0, fps=25.0)


@pytest.mark.parametrize(
    "sync",
    [
        torch.zeros(1, 8, 2, dtype=torch.int64),
        torch.zeros(1, 8, 2, dtype=torch.bool),
        torch.zeros(1, 8, 2, dtype=torch.complex64),
        torch.full((1, 8, 2), math.nan),
        torch.full((1, 8, 2), math.inf),
        torch.zeros(8, 2),
    ],
)
def test_sync_features_that_are_no_finite_floats_are_refused(sync: torch.Tensor) -> None:
    with pytest.raises(InputError, match="The sync features are torch"):
        VideoFeatures(frames=MUTATIONS["frames"], sync=sync, duration=1.0, fps=25.0)


def test_a_file_larger_than_any_features_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a terabyte of nothing
    with pytest.raises(InputError, match="are more than the"):
        read_features(path)
