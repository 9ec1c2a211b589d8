"""Tests of the live preview: binary messages on the websocket while a sampler runs."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from .comfy_server import ComfyServer, Prompt

pytestmark = [pytest.mark.server, pytest.mark.slow]

PREVIEW_IMAGE, WITH_METADATA = 1, 4  # ComfyUI's numbers of binary messages


async def run_and_record(server: ComfyServer, prompt: Prompt, features: dict[str, Any]) -> list[Any]:
    """Run a prompt; returns all its messages, binary ones as bytes."""
    import aiohttp

    client, messages = uuid.uuid4().hex, []
    url = f"http://{server.address}/ws?clientId={client}"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket:
        await socket.send_json({"type": "feature_flags", "data": features})
        await asyncio.to_thread(server.queue, prompt, client)
        while True:
            message = await socket.receive(timeout=120)
            if message.type == aiohttp.WSMsgType.BINARY:
                messages.append(message.data)
                continue
            messages.append(json.loads(message.data))
            if messages[-1]["type"] in ("execution_success", "execution_error"):
                return messages


@pytest.mark.parametrize("with_metadata", [False, True])
def test_a_browser_receives_a_picture_a_step(
    with_metadata: bool, server: ComfyServer, example: Callable[..., Prompt]
) -> None:
    prompt = example("text_to_audio", steps=3, seed=40 + with_metadata)
    messages = asyncio.run(run_and_record(server, prompt, {"supports_preview_metadata": with_metadata}))
    assert messages[-1]["type"] == "execution_success"
    pictures = [message for message in messages if isinstance(message, bytes)]
    assert len(pictures) == 3
    for message in pictures:
        kind, second = struct.unpack(">II", message[:8])
        assert kind == (WITH_METADATA if with_metadata else PREVIEW_IMAGE)
        if with_metadata:
            metadata = json.loads(message[8 : 8 + second])
            assert (metadata["node_id"], metadata["image_type"]) == ("2", "image/jpeg")
        image = Image.open(io.BytesIO(message[8 + (second if with_metadata else 0) :]))
        assert (image.format, image.size) == ("JPEG", (512, 192))
    assert len(set(pictures)) == 3, "they change from step to step"


def test_no_pictures_where_they_are_switched_off(server: ComfyServer, example: Callable[..., Prompt]) -> None:
    messages = asyncio.run(
        run_and_record(server, example("text_to_audio", steps=2, seed=44, live_preview=False), {})
    )
    assert messages[-1]["type"] == "execution_success"
    assert not any(isinstance(message, bytes) for message in messages)
