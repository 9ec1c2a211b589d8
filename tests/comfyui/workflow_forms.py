"""Converts a workflow from the editor's form to the API form with the help of /object_info.

A small stand-in for the frontend's own conversion: nodes, links, widgets and notes, as in our examples.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
NOTES = {"Note", "MarkdownNote"}

Info = dict[str, dict[str, Any]]


def inputs_of(node_info: dict[str, Any]) -> dict[str, list[Any]]:
    """name -> [type, options], required first, in the order of the node."""
    specs = {}
    for group in ("required", "optional"):
        for name in node_info["input_order"].get(group, []):
            kind, *options = node_info["input"][group][name]
            specs[name] = [kind, options[0] if options else {}]
    return specs


def forget_additions(info: Info, workflow: dict[str, Any]) -> Info:
    """A server's definitions without what its ComfyUI added to other packs' nodes since a workflow was saved.

    Newer versions give nodes further optional inputs and outputs, and mark some as deprecated in their names.
    Our own nodes stay as they are: a change to them must change the workflows.
    """
    info = dict(info)
    for node in workflow["nodes"]:
        kind = node["type"]
        if kind in info and not kind.startswith("AudioX"):
            known = {socket["name"] for socket in node["inputs"]}
            spec = info[kind] = deepcopy(info[kind])
            spec["input_order"] = {
                group: [name for name in names if name in known]
                for group, names in spec["input_order"].items()
            }
            for key in ("output", "output_name", "output_is_list"):
                spec[key] = spec[key][: len(node["outputs"])]
            spec["display_name"] = spec["display_name"].removesuffix(" (DEPRECATED)")
    return info


def find_grown_nodes(info: Info, workflow: dict[str, Any]) -> set[str]:
    """Types of nodes to which the server's ComfyUI has added inputs: they are taller than in the workflow."""
    return {
        node["type"]
        for node in workflow["nodes"]
        if node["type"] in info
        and not node["type"].startswith("AudioX")
        and not inputs_of(info[node["type"]]).keys() <= {socket["name"] for socket in node["inputs"]}
    }


def is_widget(kind: object) -> bool:
    """Whether an input of this type has a widget; a list is an old form of combo."""
    return isinstance(kind, list) or kind in WIDGET_TYPES


def widget_values(node: dict[str, Any], node_info: dict[str, Any]) -> dict[str, Any]:
    """name -> value of a node's widgets.

    Fails if `widgets_values` holds fewer or more than there are widgets.
    """
    values, assigned, last = list(node["widgets_values"]), {}, []
    for name, (kind, options) in inputs_of(node_info).items():
        if not is_widget(kind):
            continue
        assert values, f"{node['type']}: no value for {name}"
        assigned[name] = values.pop(0)
        # The frontend adds this widget to every input named seed.
        if options.get("control_after_generate") or name == "seed":
            control = values.pop(0)
            assert control in ("fixed", "increment", "decrement", "randomize"), (
                f"{node['type']}.{name}: {control!r}"
            )
        if options.get("image_upload") or options.get("video_upload"):
            last.append("image")  # the button
        if options.get("audio_upload"):
            last += [None, ""]  # the player, and the button
    assert values == last, (
        f"{node['type']}: {values} at the end, where {last} belongs to the frontend's widgets"
    )
    return assigned


def to_api_form(workflow: dict[str, Any], info: Info) -> dict[str, dict[str, Any]]:
    """Convert a workflow; fails on inconsistent links."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}
    prompt = {}
    for node in nodes.values():
        if node["type"] in NOTES:
            continue
        inputs = widget_values(node, info[node["type"]])
        for slot, socket in enumerate(node["inputs"]):
            if socket["link"] is not None:
                _, source, source_slot, target, target_slot, kind = links[socket["link"]]
                assert (target, target_slot) == (node["id"], slot), f"link {socket['link']} goes elsewhere"
                assert kind == info[nodes[source]["type"]]["output"][source_slot], f"link {socket['link']}"
                assert socket["link"] in nodes[source]["outputs"][source_slot]["links"]
                inputs[socket["name"]] = [str(source), source_slot]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt
