"""Films of scenes: a bouncing ball, a flashing lamp, a hammer, a rolling wheel, each in time with its sound.

A frame shows exactly the moment i / fps. Positions are computed from the scene's events rather than stepped,
so events on screen and in the sound have the same times.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from audiox_ext.errors import InputError
from audiox_ext.random_numbers import keyed_generator

from .canvas import Camera, Canvas, Colour, Point
from .scenes import Event, Scene

FILM_KINDS = ("ball", "lamp", "hammer", "wheel")
MIN_SIDE, MAX_SIDE = 32, 1024  # pixels a side
_STRIKE = 0.14  # seconds of a hammer's stroke
_HORIZON = 0.2  # where the floor meets the wall, behind the objects at 0
_DRIFT = 0.04  # amplitude of the camera's sway, in widths of the picture


@dataclass(frozen=True, kw_only=True)
class _Look:
    """The visual properties that vary from film to film and have no sound: colours, camera, sizes."""

    wall: Colour
    floor: Colour
    thing: Colour
    second: Colour
    size: float  # of the thing, around 1
    scale: float  # of the camera, around 1
    roll: float
    sway: tuple[float, float]  # hertz and phase
    seed: int


@dataclass(frozen=True)
class _Shot:
    """A moment of a film."""

    canvas: Canvas
    look: _Look
    events: tuple[Event, ...]
    time: float


def render_film(
    scene: Scene,
    *,
    size: tuple[int, int] = (224, 224),
    fps: float = 25.0,
    indices: Sequence[int] | None = None,
) -> np.ndarray:
    """Render the film of a scene: (T, H, W, 3) uint8, T = round(seconds * fps).

    Args:
        scene: A scene with a film.
        size: (width, height), 32 to 1024 each.
        fps: Frames per second.
        indices: The frames to draw; None for all.

    Raises:
        InputError: The scene has no film, or the size or the frame rate is out of range.
    """
    if scene.film not in FILM_KINDS:
        raise InputError(
            f"This scene has no film (film is {scene.film!r}). "
            f"Draw one of {', '.join(FILM_KINDS)} with film=True."
        )
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        raise InputError(f"The size is {size[0]} x {size[1]}: use {MIN_SIDE} to {MAX_SIDE} pixels per side.")
    if not (math.isfinite(fps) and fps > 0):
        raise InputError(f"The frame rate is {fps}: use a number above 0.")
    look, events = _look(scene.seed), scene.parts[0].events
    margin = math.ceil(_DRIFT * size[0])
    wide = _camera(look, (size[0] + 2 * margin, size[1]), size)
    room = _room(look, wide, scene.film)
    numbers = range(round(scene.seconds * fps)) if indices is None else indices
    pictures = np.empty((len(numbers), size[1], size[0], 3), dtype=np.uint8)
    for place, index in enumerate(numbers):
        time = index / fps
        shift = round(margin * math.sin(2 * math.pi * (look.sway[0] * time + look.sway[1])))
        camera = _camera(look, size, size, shift / (size[0] * 0.5 * look.scale))
        canvas = Canvas(room[:, margin + shift : margin + shift + size[0]].copy(), camera)
        _DRAWERS[scene.film](_Shot(canvas, look, events, time))
        np.clip(canvas.picture + 0.5, 0, 255, out=canvas.picture)
        pictures[place] = canvas.picture
    return pictures


def _look(seed: int) -> _Look:
    random = keyed_generator(seed, 7)
    hue = random.random()
    return _Look(
        wall=_colour(hue, random.uniform(0.1, 0.5), random.uniform(0.35, 0.95)),
        floor=_colour(hue + random.uniform(0.05, 0.3), random.uniform(0.15, 0.55), random.uniform(0.25, 0.6)),
        thing=_colour(hue + random.uniform(0.35, 0.65), random.uniform(0.6, 1.0), random.uniform(0.7, 1.0)),
        second=_colour(random.random(), random.uniform(0.3, 0.9), random.uniform(0.3, 1.0)),
        size=random.uniform(0.8, 1.2),
        scale=random.uniform(0.75, 1.05),
        roll=random.uniform(-0.06, 0.06),
        sway=(random.uniform(0.03, 0.1), random.random()),
        seed=seed,
    )


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return 255 * red, 255 * green, 255 * blue


def _camera(look: _Look, size: tuple[int, int], frame: tuple[int, int], shift: float = 0.0) -> Camera:
    """The camera of a picture in which a frame is 2 / look.scale units wide."""
    c, s = math.cos(look.roll), math.sin(look.roll)
    return Camera(
        width=size[0],
        height=size[1],
        scale=min(frame) * 0.5 * look.scale,
        centre=(c * shift, 0.62 - s * shift),
        roll=look.roll,
    )


def _room(look: _Look, camera: Camera, name: str) -> np.ndarray:
    """(H, W, 3) float32: a wall with pictures, and a floor that reaches behind y = 0."""
    random = keyed_generator(look.seed, 8)
    x, y = camera.world()
    shade = (
        0.8 + 0.25 * np.clip(y / 1.6, 0, 1) + 0.05 * np.sin(x * random.uniform(0.5, 2) + random.uniform(0, 6))
    )
    wall = np.array(look.wall, np.float32) * shade[..., None]
    depth = np.clip(_HORIZON - y, 0.0, None)
    planks = np.floor((x / (0.5 + depth)) * random.uniform(2, 5) + random.random())
    tone = 0.8 + 0.12 * np.sin(planks * 2.4) + 0.3 * depth
    floor = np.array(look.floor, np.float32) * tone[..., None]
    edge = np.clip(0.5 + (y - _HORIZON) * camera.scale, 0, 1)[..., None]
    picture = np.asarray(edge * wall + (1 - edge) * floor, dtype=np.float32)
    canvas = Canvas(picture, camera)
    for _ in range(int(random.integers(0, 4)) if name != "wheel" else 0):
        place = (random.uniform(-0.9, 0.9), random.uniform(0.5, 1.2))
        size = (random.uniform(0.15, 0.4), random.uniform(0.15, 0.35))
        canvas.box(place, (size[0] + 0.04, size[1] + 0.04), _darker(look.wall, 0.5))
        canvas.box(place, size, _colour(random.random(), 0.4, random.uniform(0.4, 0.9)))
    picture += random.normal(0, 2.5, picture.shape[:2]).astype(np.float32)[..., None]  # grain
    return picture


def _darker(colour: Colour, fraction: float) -> Colour:
    return colour[0] * fraction, colour[1] * fraction, colour[2] * fraction


def _ball(shot: _Shot) -> None:
    """Arcs between the impacts; the ball is released before the first and caught after the last."""
    events, radius = shot.events, 0.13 * shot.look.size
    height, x = ball_height(events, shot.time), _ball_place(events, shot.time)
    near = min(abs(shot.time - event.onset) for event in events)
    squash = 1 - 0.3 * max(0.0, 1 - near / 0.05)
    shot.canvas.disc(
        (x, 0.0), radius * (1 - 0.25 * height), (20, 20, 20), squash=0.22, alpha=0.5 - 0.3 * height
    )
    centre = (x, radius * squash + 1.05 * height)
    shot.canvas.disc(centre, radius, shot.look.thing, squash=squash)
    shot.canvas.disc(
        (x - 0.35 * radius, centre[1] + 0.35 * radius * squash), 0.22 * radius, (255, 255, 255), alpha=0.6
    )


def ball_height(events: tuple[Event, ...], time: float) -> float:
    """Height of the ball's lowest point above the floor; 1 is the height from which it falls.

    Args:
        events: The impacts.
        time: Seconds.
    """
    onsets = [event.onset for event in events]
    restitution = 10 ** ((events[1].gain - events[0].gain) / 20) if len(events) > 1 else 0.8
    first = (onsets[1] - onsets[0]) / restitution if len(events) > 1 else min(1.0, 2 * (onsets[0] - 0.02))
    after = sum(onset <= time for onset in onsets)
    if after == 0:
        rest = (onsets[0] - time) / (first / 2)
        return min(1.0, 1 - (1 - rest) ** 2) if rest < 1 else 1.0
    flight = first * restitution**after
    fraction = (time - onsets[after - 1]) / flight
    top = (flight / first) ** 2
    if after == len(events):
        fraction = min(fraction, 0.5)
    return max(0.0, top * 4 * fraction * (1 - fraction))


def _ball_place(events: tuple[Event, ...], time: float) -> float:
    """Horizontal position, which follows the sound's direction."""
    times, pans = [event.onset for event in events], [event.pan for event in events]
    return 0.85 * float(np.interp(time, times, pans))


def _lamp(shot: _Shot) -> None:
    """Dark, and bright while the lamp is lit."""
    x = 0.7 * shot.events[0].pan
    lit = any(event.onset <= shot.time < event.onset + event.duration for event in shot.events)
    shot.canvas.picture *= np.float32(0.95 if lit else 0.4)
    top, size = (x, 1.05), 0.13 * shot.look.size
    shot.canvas.line((x, 2.2), top, 0.02, (30, 30, 30))
    if lit:
        shot.canvas.glow((x, top[1] - 1.5 * size), 0.5, (120, 110, 70))
        shot.canvas.glow((x, top[1] - 1.5 * size), 0.15, (150, 140, 90))
    shot.canvas.disc((x, top[1] - 1.3 * size), size, (255, 250, 215) if lit else (70, 70, 75))
    shade = shot.look.thing if lit else _darker(shot.look.thing, 0.45)
    shot.canvas.box((x, top[1] - 0.2 * size), (2.6 * size, 1.0 * size), shade)
    shot.canvas.box((x, top[1] + 0.5 * size), (1.4 * size, 0.6 * size), shade)


def hammer_angle(events: tuple[Event, ...], time: float) -> float:
    """Height of the raised hammer: 0 on the anvil at the moment of an impact, up to 1.

    Args:
        events: The impacts.
        time: Seconds.
    """
    onsets = [event.onset for event in events]
    following = next((onset for onset in onsets if onset > time), None)
    before = max((onset for onset in onsets if onset <= time), default=None)
    raised = 1.0
    if before is not None:
        room = 0.5 * ((following - before) if following is not None else 1.0)
        fraction = min(1.0, (time - before) / max(0.1, room))
        raised = fraction * fraction * (3 - 2 * fraction)
    if following is not None and following - time < _STRIKE:
        raised = min(raised, 1 - (1 - (following - time) / _STRIKE) ** 2)
    return raised


def _hammer(shot: _Shot) -> None:
    """An arm that strikes an anvil; sparks fly at an impact."""
    canvas, size = shot.canvas, shot.look.size
    x = 0.55 * shot.events[0].pan
    iron, top = (70.0, 74.0, 82.0), 0.34 * size
    canvas.box((x, 0.02), (0.34 * size, 0.12), _darker(iron, 0.7))
    canvas.box((x, 0.14 * size), (0.16 * size, 0.24 * size), iron)
    canvas.box((x, 0.28 * size), (0.44 * size, 0.12 * size), iron)
    angle = 1.15 * hammer_angle(shot.events, shot.time)
    side = -1.0 if x > 0.2 else 1.0  # the pivot stays in the picture
    length = 0.62 * size
    head_height = 0.09 * size
    pivot = (x + side * length, top + head_height)
    head = (pivot[0] - side * length * math.cos(angle), pivot[1] + length * math.sin(angle))
    canvas.box((pivot[0], pivot[1] / 2), (0.07 * size, pivot[1]), _darker(shot.look.second, 0.6))
    canvas.line(pivot, head, 0.05 * size, (150, 105, 60))
    canvas.disc(pivot, 0.05 * size, (60, 45, 35))
    canvas.box(head, (0.16 * size, 2 * head_height), shot.look.thing, angle=-side * angle)
    since = min((shot.time - event.onset for event in shot.events if event.onset <= shot.time), default=9.0)
    if since < 0.16:
        for number in range(7):
            way = math.pi * (0.1 + 0.8 * number / 6)
            start = (x + 0.1 * math.cos(way), top + 0.1 * math.sin(way))
            far = 0.16 + 1.4 * since
            end = (x + far * math.cos(way), top + far * math.sin(way))
            canvas.line(start, end, 0.014, (255, 220, 110), alpha=1 - since / 0.16)


def wheel_turns(events: tuple[Event, ...], time: float) -> float:
    """Turns of the wheel so far; a whole number at the moment of each thump.

    Args:
        events: The thumps and the rumble.
        time: Seconds.
    """
    onsets = [event.onset for event in events if event.variant != "rumble"]
    if len(onsets) < 2:
        return time - onsets[0]
    steps = np.arange(len(onsets))
    if time < onsets[0]:
        return (time - onsets[0]) / (onsets[1] - onsets[0])
    if time > onsets[-1]:
        return len(onsets) - 1 + (time - onsets[-1]) / (onsets[-1] - onsets[-2])
    return float(np.interp(time, onsets, steps))


def _wheel(shot: _Shot) -> None:
    """A wheel that the camera follows past a fence. The iron on its rim meets the floor once per turn."""
    canvas, look = shot.canvas, shot.look
    radius = 0.36 * look.size
    x, turns = 0.5 * shot.events[0].pan, wheel_turns(shot.events, shot.time)
    travelled = 2 * math.pi * radius * turns
    for post in range(-6, 7):
        place = (post * 0.45 - travelled + 2.7) % 5.4 - 2.7
        canvas.box((place, 0.35), (0.07, 0.6), _darker(look.second, 0.8))
    canvas.line((-3, 0.5), (3, 0.5), 0.04, _darker(look.second, 0.65))
    for stone in range(9):
        place = (stone * 0.6 + 0.17 * (stone % 3) - travelled + 2.7) % 5.4 - 2.7
        canvas.disc((place, -0.2 - 0.06 * (stone % 2)), 0.03, _darker(look.floor, 0.6))
    middle = (x, radius)
    angle = -math.pi / 2 - 2 * math.pi * turns  # rolling to the right: clockwise
    for spoke in range(6):
        way = angle + spoke * math.pi / 3
        canvas.line(middle, _around(middle, radius, way), 0.035, look.thing)
    canvas.ring(middle, radius - 0.03, 0.07, _darker(look.thing, 0.8))
    canvas.disc(middle, 0.07, _darker(look.thing, 0.5))
    canvas.line(
        _around(middle, radius - 0.03, angle - 0.2),
        _around(middle, radius - 0.03, angle + 0.2),
        0.09,
        (245, 245, 235),
    )
    onsets = [event.onset for event in shot.events if event.variant != "rumble"]
    since = min((shot.time - onset for onset in onsets if onset <= shot.time), default=9.0)
    if since < 0.15:
        for side in (-1, 1):
            dust = (x + side * (0.06 + since), 0.02 + 0.4 * since)
            canvas.disc(dust, 0.03 + 0.3 * since, (200, 190, 170), alpha=0.7 * (1 - since / 0.15))


def _around(centre: Point, radius: float, angle: float) -> Point:
    return centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle)


_DRAWERS: dict[str, Callable[[_Shot], None]] = {
    "ball": _ball,
    "lamp": _lamp,
    "hammer": _hammer,
    "wheel": _wheel,
}
