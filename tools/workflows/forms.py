"""A workflow in the two forms that ComfyUI knows: the editor's, and the one that is queued over HTTP.

Both are made with the server's /object_info, which lists the inputs of its nodes.
"""

from __future__ import annotations

import uuid
from typing import Any

from .notes import note_height, note_of
from .parts import SIZES, Node, Workflow

WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
NOTE_WIDTH = 360

# The frontend draws a node's title above its position, and a group's title inside the group.
NODE_TITLE, GROUP_TITLE, PADDING, GAP = 30, 44, 20, 40

Info = dict[str, dict[str, Any]]
Json = dict[str, Any]
Places = dict[str, tuple[list[int], list[int]]]
Link = tuple[int, int, int, int, int, str]


def api_form(workflow: Workflow, info: Info) -> Json:
    """Build the form that POST /prompt takes. Raises `ValueError` for names that the nodes do not have."""
    ids = _ids(workflow)
    form = {}
    for name, node in workflow.nodes.items():
        inputs: Json = {}
        for key, (kind, options) in _inputs(node, info).items():
            if key in node.links:
                source, slot = _output(workflow, info, node.links[key])
                inputs[key] = [str(ids[source]), slot]
            elif _is_widget(kind):
                inputs[key] = _value(node, key, kind, options)
        title = node.title or info[node.kind]["display_name"]
        form[str(ids[name])] = {"class_type": node.kind, "inputs": inputs, "_meta": {"title": title}}
    return form


def editor_form(workflow: Workflow, info: Info) -> Json:
    """Build the form that the editor saves and opens. Raises like `api_form`."""
    ids, links = _ids(workflow), _links(workflow, info)
    places, groups = _layout(workflow)
    nodes = []
    for order, (name, node) in enumerate(workflow.nodes.items()):
        position, size = places[name]
        sockets, widgets, values = _parts(node, info)
        inputs = [*sockets, *widgets]
        for slot, socket in enumerate(inputs):
            numbers = (link[0] for link in links if (link[3], link[4]) == (ids[name], slot))
            socket["link"] = next(numbers, None)
        outputs = [
            {
                "name": output,
                "type": kind,
                "links": [link[0] for link in links if (link[1], link[2]) == (ids[name], slot)],
            }
            for slot, (output, kind) in enumerate(
                zip(info[node.kind]["output_name"], info[node.kind]["output"], strict=True)
            )
        ]
        nodes.append(
            {
                "id": ids[name],
                "type": node.kind,
                "pos": position,
                "size": size,
                "flags": {},
                "order": order,
                "mode": 0,
                "inputs": inputs,
                "outputs": outputs,
                **({"title": node.title} if node.title else {}),
                "properties": {"Node name for S&R": node.kind},
                "widgets_values": values,
            }
        )
    nodes.append(_note(workflow, len(nodes) + 1))
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"audiox/{workflow.name}")),
        "revision": 0,
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": [list(link) for link in links],
        "groups": groups,
        "config": {},
        "extra": {"ds": {"scale": 0.7, "offset": [NOTE_WIDTH + 100, 80]}},
        "version": 0.4,
    }


def _ids(workflow: Workflow) -> dict[str, int]:
    return {name: number for number, name in enumerate(workflow.nodes, 1)}


def _inputs(node: Node, info: Info) -> dict[str, tuple[Any, Json]]:
    """Map each input of a node, in order, to its type and options."""
    specs = {}
    for group in ("required", "optional"):
        for name in info[node.kind]["input_order"].get(group, []):
            kind, *options = info[node.kind]["input"][group][name]
            specs[name] = (kind, options[0] if options else {})
    unknown = (node.values.keys() | node.links.keys()) - specs.keys()
    if unknown:
        raise ValueError(f"{node.kind} has no input {', '.join(sorted(unknown))}.")
    return specs


def _is_widget(kind: object) -> bool:
    return isinstance(kind, list) or kind in WIDGET_TYPES


def _value(node: Node, key: str, kind: object, options: Json) -> object:
    if key in node.values:
        return node.values[key]
    if "default" in options:
        return options["default"]
    if isinstance(kind, list) and kind:
        return kind[0]
    raise ValueError(f"{node.kind}: {key} has no default, so it needs a value.")


def _output(workflow: Workflow, info: Info, link: str) -> tuple[str, int]:
    """Return (node name, slot) of `link`. Without an output's name it is the first slot."""
    source, _, output = link.partition(".")
    names = info[workflow.nodes[source].kind]["output_name"]
    if output and output not in names:
        raise ValueError(f"{workflow.name}: {source} has no output {output}, only {', '.join(names)}.")
    return source, names.index(output) if output else 0


def _links(workflow: Workflow, info: Info) -> list[Link]:
    """(number, source, its slot, target, its slot, type)."""
    ids = _ids(workflow)
    links: list[Link] = []
    for name, node in workflow.nodes.items():
        sockets, widgets, _ = _parts(node, info)
        for slot, socket in enumerate([*sockets, *widgets]):
            if socket["name"] in node.links:
                source, out = _output(workflow, info, node.links[socket["name"]])
                kind = info[workflow.nodes[source].kind]["output"][out]
                links.append((len(links) + 1, ids[source], out, ids[name], slot, kind))
    return links


def _parts(node: Node, info: Info) -> tuple[list[Json], list[Json], list[object]]:
    """Inputs with a socket, inputs with a widget, and the values of all widgets."""
    sockets: list[Json] = []
    widgets: list[Json] = []
    values: list[object] = []
    buttons: list[object] = []
    optional = info[node.kind]["input_order"].get("optional", [])
    for key, (kind, options) in _inputs(node, info).items():
        shape = {"shape": 7} if key in optional else {}
        if not _is_widget(kind):
            sockets.append({"name": key, **shape, "type": kind, "link": None})
            continue
        name = "COMBO" if isinstance(kind, list) else kind
        widgets.append({"name": key, **shape, "type": name, "widget": {"name": key}, "link": None})
        values.append(_value(node, key, kind, options))
        if options.get("control_after_generate") or key == "seed":
            values.append(node.seed_control)
        # The frontend's own widgets come last: the button for uploads, and the player of sounds before it.
        if options.get("image_upload") or options.get("video_upload"):
            buttons.append("image")
        if options.get("audio_upload"):
            buttons += [None, ""]
    return sockets, widgets, values + buttons


def _layout(workflow: Workflow) -> tuple[Places, list[Json]]:
    """Position and size of every node, and the groups."""
    places: Places = {}
    groups: list[Json] = []
    left = 0
    for column in workflow.columns:
        right, top = left, 0
        for stage in column:
            first = top + (GROUP_TITLE if stage.title else 0)
            right_of_stage, bottom, start = left, first, left
            for part in (stage.nodes, stage.beside):
                below = first
                for name, node in part.items():
                    width, height = node.size or SIZES[node.kind]
                    places[name] = ([start, below + NODE_TITLE], [width, height])
                    right_of_stage = max(right_of_stage, start + width)
                    below += NODE_TITLE + height + PADDING
                start, bottom = right_of_stage + GAP, max(bottom, below)
            if stage.title:
                box = [left - PADDING, top, right_of_stage - left + 2 * PADDING, bottom - top]
                groups.append(_group(stage.title, len(groups) + 1, box))
            right, top = max(right, right_of_stage), bottom + GAP - PADDING
        left = right + 2 * PADDING + GAP
    return places, groups


def _group(title: str, number: int, box: list[int]) -> Json:
    return {"id": number, "title": title, "bounding": box, "color": "#3f789e", "font_size": 24, "flags": {}}


def _note(workflow: Workflow, number: int) -> Json:
    text = note_of(workflow)
    return {
        "id": number,
        "type": "MarkdownNote",
        "pos": [-NOTE_WIDTH - PADDING - GAP, NODE_TITLE],
        "size": [NOTE_WIDTH, note_height(text)],
        "flags": {},
        "order": number - 1,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "title": "How to use",
        "properties": {},
        "widgets_values": [text],
        "color": "#432",
        "bgcolor": "#653",
    }
