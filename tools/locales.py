"""The texts of the nodes, for translation: `python -m tools.locales http://127.0.0.1:8188`.

Writes locales/en/nodeDefs.json from what a running server tells of the pack's nodes, and says what is missing
or left over in the other languages.
"""

from __future__ import annotations

import argparse
import json
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LOCALES = Path(__file__).parents[1] / "locales"
LANGUAGES = ("en", "zh", "ja", "ko", "fr", "es", "de", "ru")
_OWN_NAMES = (
    "sampler",
    "schedule",
    "precision",
    "model",
    "lora_name",
)  # choices that are names of things, in every language

Texts = dict[str, Any]


def english(object_info: Mapping[str, Any]) -> Texts:
    """nodeDefs.json of the pack's nodes in a server's /object_info."""
    nodes = {name: info for name, info in object_info.items() if info["category"] == "audio/AudioX"}
    return {name: _node(nodes[name]) for name in sorted(nodes)}


def _node(info: Mapping[str, Any]) -> Texts:
    inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {name: _input(name, spec) for name, spec in inputs.items()},
        "outputs": {
            str(index): {"name": name, "tooltip": tooltip} for index, (name, tooltip) in enumerate(outputs)
        },
    }


def _input(name: str, spec: list[Any]) -> Texts:
    details = spec[1] if len(spec) > 1 else {}
    texts: Texts = {"name": name, "tooltip": details.get("tooltip", "")}
    options = details.get("options") or (spec[0] if isinstance(spec[0], list) else None)
    if options and name not in _OWN_NAMES:
        texts["options"] = {str(option): str(option) for option in options}
    return texts


def leaves(texts: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """(place, text) of every text, places being keys joined by slashes."""
    for key, value in texts.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}{key}/")
        else:
            yield f"{path}{key}", value


def read(language: str) -> Texts:
    """nodeDefs.json of a language, empty where there is none."""
    path = LOCALES / language / "nodeDefs.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("server", help="address of a running ComfyUI with this pack")
    address = parser.parse_args().server.rstrip("/")
    with urllib.request.urlopen(f"{address}/object_info") as answer:
        texts = english(json.load(answer))
    path = LOCALES / "en" / "nodeDefs.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(texts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    wanted = dict(leaves(texts))
    for language in LANGUAGES[1:]:
        there = dict(leaves(read(language)))
        for place in sorted(wanted.keys() - there.keys()):
            print(f"{language}: missing {place}: {wanted[place]}")
        for place in sorted(there.keys() - wanted.keys()):
            print(f"{language}: left over {place}")


if __name__ == "__main__":
    main()
