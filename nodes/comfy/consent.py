"""Lets only the value true of a prompt count as consent.

ComfyUI turns the value of a switch into `bool(value)` and writes that into the prompt before any node sees
it, so that the texts "false", "no" and "0" become true. The prompt that a client sent is visible only to the
handlers of the server.
"""

from __future__ import annotations

import sys
from typing import Any

from ...audiox_ext.license import is_consent
from ...audiox_ext.utf8 import get_logger

log = get_logger(__name__)

CONSENT = "accept_cc_by_nc"
"""The name of the switch."""
_PRIMITIVE, _PRIMITIVE_VALUE = "PrimitiveBoolean", "value"
_LINK_LENGTH = 2  # the number of a node and of its output


def register_consent_check(node_ids: set[str]) -> None:
    """Check the switches of these nodes in every prompt that the server receives.

    Args:
        node_ids: the nodes that have a switch for consent.
    """
    module = sys.modules.get("server")  # ComfyUI has loaded it, unless it runs without a server
    server = getattr(getattr(module, "PromptServer", None), "instance", None)
    if server is not None:
        server.add_on_prompt_handler(lambda data: refuse_other_values(data, node_ids))


def refuse_other_values(data: Any, node_ids: set[str]) -> Any:
    """Switch consent off wherever a prompt gives another value than true or false.

    A switch may be connected to another node; then that node's result counts, and a primitive switch is
    checked as well.

    Args:
        data: the body of a request, which may be malformed.
        node_ids: the nodes that have a switch for consent.

    Returns:
        `data`, changed in place.
    """
    prompt = data.get("prompt") if isinstance(data, dict) else None
    nodes = prompt if isinstance(prompt, dict) else {}
    for name, node in nodes.items():
        if not isinstance(node, dict) or node.get("class_type") not in node_ids:
            continue
        inputs = _inputs_of(node)
        value = inputs.get(CONSENT)
        if isinstance(value, list) and len(value) == _LINK_LENGTH:
            source = nodes.get(str(value[0]))
            if isinstance(source, dict) and source.get("class_type") == _PRIMITIVE:
                _check(_inputs_of(source), _PRIMITIVE_VALUE, name)
        else:
            _check(inputs, CONSENT, name)
    return data


def _inputs_of(node: Any) -> dict[str, Any]:
    """Return the inputs of a node in a prompt."""
    inputs = node.get("inputs") if isinstance(node, dict) else None
    return inputs if isinstance(inputs, dict) else {}


def _check(inputs: dict[str, Any], name: str, node: object) -> None:
    """Replace a value that is neither true, false nor a link by false."""
    value = inputs.get(name)
    if name not in inputs or isinstance(value, (bool, list)):
        return
    log.warning(
        "AudioX: %s of node %s is %.40r, which is not consent: only true is. It counts as false.",
        CONSENT,
        node,
        value,
    )
    inputs[name] = False


def read_consent(value: object) -> bool:
    """Return whether the value that a node received is consent; of other nodes it may be anything."""
    if not isinstance(value, bool):
        log.warning("AudioX: %s is %.40r, which is not consent: only true is.", CONSENT, value)
    return is_consent(value)
