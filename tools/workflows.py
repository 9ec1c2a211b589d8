"""Write the example workflows, with a ComfyUI that runs: `python -m tools.workflows http://127.0.0.1:8188`.

Every workflow is described once, in workflow_list.py and workflow_sounds.py, and workflow_pocket.py makes
twins of some for the model that is part of the pack. From that, and from what the
server says of its nodes, come examples/<name>.json for the editor, examples/api/<name>.json for scripts and
examples/<name>.jpg, the picture in ComfyUI's list of templates. A workflow with nodes that the server lacks
(those of the SelVA pack) stays as it is, with a message.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
from pathlib import Path

from .workflow_forms import Info, api_form, editor_form
from .workflow_list import FROM_TEXT_AND_VIDEO
from .workflow_parts import Workflow
from .workflow_pocket import TWINS
from .workflow_sounds import FROM_SOUND
from .workflow_thumbnails import draw_thumbnail

WORKFLOWS = (*FROM_TEXT_AND_VIDEO, *FROM_SOUND, *TWINS)
EXAMPLES = Path(__file__).parents[1] / "examples"


def main(arguments: list[str] | None = None) -> int:
    """Write all examples; returns the exit status: 1 if one could not be written."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.workflows", description="Write the example workflows."
    )
    parser.add_argument(
        "server", nargs="?", default="http://127.0.0.1:8188", help="address of a ComfyUI that runs"
    )
    parser.add_argument("--out", type=Path, default=EXAMPLES, help="folder to write to (default: examples)")
    chosen = parser.parse_args(arguments)
    with urllib.request.urlopen(f"{chosen.server.rstrip('/')}/object_info", timeout=60) as answer:
        info: Info = json.load(answer)
    missing = 0
    for workflow in WORKFLOWS:
        unknown = {node.kind for node in workflow.nodes.values()} - info.keys()
        if unknown:
            print(f"{workflow.name} is left as it is: the server lacks {', '.join(sorted(unknown))}.")
            missing += 1
        else:
            write_workflow(workflow, info, chosen.out)
            print(f"{workflow.name} is written.")
    return int(missing > 0)


def write_workflow(workflow: Workflow, info: Info, folder: Path) -> None:
    """Both forms and the picture of one workflow, in `folder` and its folder api. info: the /object_info."""
    (folder / "api").mkdir(parents=True, exist_ok=True)
    for path, form in (
        (folder / f"{workflow.name}.json", editor_form(workflow, info)),
        (folder / "api" / f"{workflow.name}.json", api_form(workflow, info)),
    ):
        path.write_text(json.dumps(form, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draw_thumbnail(workflow).save(folder / f"{workflow.name}.jpg", quality=88, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
