"""Write the example workflows with a running ComfyUI: `python -m tools.workflows http://127.0.0.1:8188`.

Every workflow is described once, in one of the modules beside this one. The description and the server's node
definitions give three files: examples/<name>.json for the editor, examples/api/<name>.json for scripts, and
examples/<name>.jpg, the picture in ComfyUI's list of templates. A workflow is skipped, with a message, if the
server lacks one of its nodes (those of the SelVA pack).
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
from pathlib import Path

from .examples import WORKFLOWS
from .forms import Info, api_form, editor_form
from .parts import Workflow
from .thumbnails import draw_thumbnail

EXAMPLES = Path(__file__).parents[2] / "examples"


def main(arguments: list[str] | None = None) -> int:
    """Write all examples.

    Args:
        arguments: the command line; None for the program's own.

    Returns:
        Exit status: 1 if an example was skipped.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.workflows", description="Write the example workflows."
    )
    parser.add_argument(
        "server", nargs="?", default="http://127.0.0.1:8188", help="address of a running ComfyUI"
    )
    parser.add_argument("--out", type=Path, default=EXAMPLES, help="folder to write to (default: examples)")
    options = parser.parse_args(arguments)
    with urllib.request.urlopen(f"{options.server.rstrip('/')}/object_info", timeout=60) as response:
        info: Info = json.load(response)
    skipped = 0
    for workflow in WORKFLOWS:
        unknown = {node.kind for node in workflow.nodes.values()} - info.keys()
        if unknown:
            print(f"{workflow.name} is skipped: the server lacks {', '.join(sorted(unknown))}.")
            skipped += 1
        else:
            write_workflow(workflow, info, options.out)
            print(f"{workflow.name} is written.")
    return int(skipped > 0)


def write_workflow(workflow: Workflow, info: Info, folder: Path) -> None:
    """Write both forms and the picture of one workflow.

    Args:
        workflow: the workflow.
        info: the server's /object_info.
        folder: gets the editor's form and the picture; its subfolder api gets the other form.
    """
    (folder / "api").mkdir(parents=True, exist_ok=True)
    for path, form in (
        (folder / f"{workflow.name}.json", editor_form(workflow, info)),
        (folder / "api" / f"{workflow.name}.json", api_form(workflow, info)),
    ):
        path.write_text(json.dumps(form, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draw_thumbnail(workflow).save(folder / f"{workflow.name}.jpg", quality=88, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
