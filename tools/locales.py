"""Collect the nodes' texts for translation: `python -m tools.locales http://127.0.0.1:8188`.

Writes locales/en/nodeDefs.json from a running server's node definitions, and lists the texts that are missing
or obsolete in the other languages.
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
# Inputs whose choices are proper names, which are not translated.
_PROPER_NAMES = ("sampler", "schedule", "precision", "model", "lora_name")

Texts = dict[str, Any]


def collect_english(object_info: Mapping[str, Any]) -> Texts:
    """Collect the English nodeDefs.json.

    Args:
        object_info: the server's /object_info.
    """
    nodes = {name: info for name, info in object_info.items() if info["category"] == "audio/AudioX"}
    return {name: _collect_node(nodes[name]) for name in sorted(nodes)}


def _collect_node(info: Mapping[str, Any]) -> Texts:
    """Collect the texts of one node."""
    inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {name: _collect_input(name, spec) for name, spec in inputs.items()},
        "outputs": {
            str(index): {"name": name, "tooltip": tooltip} for index, (name, tooltip) in enumerate(outputs)
        },
    }


def _collect_input(name: str, spec: list[Any]) -> Texts:
    """Collect the texts of one input."""
    details = spec[1] if len(spec) > 1 else {}
    texts: Texts = {"name": name, "tooltip": details.get("tooltip", "")}
    options = details.get("options") or (spec[0] if isinstance(spec[0], list) else None)
    if options and name not in _PROPER_NAMES:
        texts["options"] = {str(option): str(option) for option in options}
    return texts


def list_texts(texts: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """List every text with its path.

    Args:
        texts: nested texts.
        path: prefix for the paths.

    Yields:
        The keys that lead to the text, joined by slashes, and the text.
    """
    for key, value in texts.items():
        if isinstance(value, Mapping):
            yield from list_texts(value, f"{path}{key}/")
        else:
            yield f"{path}{key}", value


def read_texts(language: str) -> Texts:
    """Read a language's nodeDefs.json; empty if there is none.

    Args:
        language: such as "en".
    """
    path = LOCALES / language / "nodeDefs.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("server", help="address of a running ComfyUI with this pack")
    address = parser.parse_args().server.rstrip("/")
    with urllib.request.urlopen(f"{address}/object_info") as response:
        texts = collect_english(json.load(response))
    path = LOCALES / "en" / "nodeDefs.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(texts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    english = dict(list_texts(texts))
    for language in LANGUAGES[1:]:
        translations = dict(list_texts(read_texts(language)))
        for key in sorted(english.keys() - translations.keys()):
            print(f"{language}: missing {key}: {english[key]}")
        for key in sorted(translations.keys() - english.keys()):
            print(f"{language}: obsolete {key}")


if __name__ == "__main__":
    main()
