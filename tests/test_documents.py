"""The documents: their links lead somewhere, their English is plain, the README fits on a screen or three.

Needs neither torch nor ComfyUI, except for the page of the sampler study.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from plain_english import DIALECT, TERMS, scan

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE-NOTICE.md")),
        *(ROOT / "docs").glob("*.md"),
        ROOT / "audiox_ext" / "models" / "audiox-pocket" / "README.md",
        ROOT / "benchmarks" / "NOTES.md",
        ROOT / "tests" / "golden" / "README.md",
    )
)
# Folders whose comments, docstrings and strings are free of these phrases.
PLAIN_FOLDERS = ("audiox_ext", "benchmarks", "nodes", "pocket", "tests", "tools")
NOT_SCANNED = ("plain_english.py", "test_documents.py")  # the phrases themselves, and examples of them
# Texts of node inputs and of notes in the examples, which have reviews of their own; by the name of the file.
QUOTATIONS: dict[str, tuple[str, ...]] = {
    "audiox_edit_region.py": ("Marks a part of a track to be made anew",),
    "audiox_extend.py": (
        "carry a track on, or make what leads up to it",
        "after: carries the track on. before: makes what leads up to it.",
    ),
    "audiox_feature_extractor.py": ("One mask for all frames, or one a frame",),
    "audiox_lora_trainer.py": (
        "What was trained on, what was left out, how it went.",
        "learns by heart sooner",
        "Off: begin anew.",
        "is to go on making as it does",
    ),
    "audiox_sampler.py": ("edits parts of a track or carries it on",),
    "audiox_video_sound.py": ("its pictures are then encoded anew",),
    "sampler_inputs.py": (
        "A sound to go by",
        "1 leaves nothing of it",
        "the model hears a random part of the audio prompt",
    ),
    "from_text_and_video.py": ("What is black turns grey before the model sees it.",),
    "notes.py": ("For another one\nset another *seed*",),
    "pocket_twins.py": (
        "Two regions of it are made anew",
        "The second one carries it on",
    ),
    "from_sound.py": (
        "Makes a new sound after the example of another one",
        "The model hears 10 s of",
        "the model hears a random part of",
        "to carry it on see continuation",
        "describe it in the prompt, with what should be",
        "1 leaves nothing of\nit",
        "saved without making anything anew",
        "Makes two parts of a track anew",
        "What is made anew",
        "makes what leads up to",
        "the track with what was added",
    ),
}
README_LINES, README_COLUMNS = 200, 120


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def prose(document: str) -> str:
    """Without code blocks, in which nothing is a link."""
    return re.sub(r"^```.*?^```$", "", read(document), flags=re.MULTILINE | re.DOTALL)


def links(text: str) -> Iterator[str]:
    """Addresses of links and pictures: inline, by reference, and in HTML."""
    for match in re.finditer(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)", text):
        yield match[1]
    for match in re.finditer(r"^\[[^\]]+\]: +(\S+)$", text, re.MULTILINE):
        yield match[1]
    for match in re.finditer(r"<(?:img|a|source)\b[^>]*?\b(?:src|href)=\"([^\"]+)\"", text):
        yield match[1]


def labels(text: str) -> tuple[set[str], set[str]]:
    """(labels that are defined, labels that links use)."""
    defined = {name.lower() for name in re.findall(r"^\[([^\]]+)\]: ", text, re.MULTILINE)}
    body = re.sub(r"^\[[^\]]+\]: .*$", "", re.sub(r"`[^`\n]+`", "", text), flags=re.MULTILINE)
    used = set()
    for text_of_link, label in re.findall(r"(?<!\\)\[([^\[\]]+)\](?:\[([^\[\]]*)\])?(?![\[(:])", body):
        used.add((label or text_of_link).lower())
    return defined, used


def sections(text: str) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    counts: dict[str, int] = {}
    anchors = set()
    for title in re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count = counts.get(anchor, 0)
        counts[anchor] = count + 1
        anchors.add(f"{anchor}-{count}" if count else anchor)
    return anchors


def test_the_readme_is_a_front_door() -> None:
    lines = read("README.md").splitlines()
    assert len(lines) <= README_LINES
    too_wide = {number: len(line) for number, line in enumerate(lines, 1) if len(line) > README_COLUMNS}
    assert not too_wide
    assert "python3 run.py test" in lines
    assert "python3 run.py demo" in lines


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_to_files_and_sections_lead_somewhere(document: str) -> None:
    broken = []
    for target in links(prose(document)):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / document).parent / name if name else ROOT / document
        if not path.exists() or ROOT not in (path.resolve(), *path.resolve().parents):
            broken.append(f"{target}: no such file")
        elif anchor and (path.suffix != ".md" or anchor not in sections(path.read_text(encoding="utf-8"))):
            broken.append(f"{target}: no such section")
    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_label_of_a_link_is_defined_once_and_used(document: str) -> None:
    text = prose(document)
    names = [name.lower() for name in re.findall(r"^\[([^\]]+)\]: ", text, re.MULTILINE)]
    assert len(names) == len(set(names))
    defined, used = labels(text)
    assert defined <= used, f"never used: {sorted(defined - used)}"
    if defined:
        assert used <= defined, f"not defined: {sorted(used - defined)}"


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name != "docs/architecture.md"])
def test_every_document_is_reached_from_the_readme(document: str) -> None:
    reached, waiting = set(), ["README.md"]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        for target in links(prose(name)):
            path = ((ROOT / name).parent / target.partition("#")[0]).resolve()
            if "://" not in target and path.suffix == ".md" and path.is_file():
                waiting.append(path.relative_to(ROOT).as_posix())
    assert document in reached


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_are_in_plain_english(document: str) -> None:
    hits = scan([ROOT / document], (*DIALECT, *TERMS), QUOTATIONS)
    assert not hits, "\n".join(map(str, hits))


@pytest.mark.parametrize("folder", PLAIN_FOLDERS)
def test_code_is_in_plain_english(folder: str) -> None:
    files = [path for path in sorted((ROOT / folder).rglob("*.py")) if path.name not in NOT_SCANNED]
    assert files
    hits = scan(files, DIALECT, QUOTATIONS)
    assert not hits, "\n".join(map(str, hits))


def test_the_scan_finds_phrases_across_lines_and_not_in_code(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# It\n\nThe track is carried\non. It is made `anew`.\n\n```\nanew\n```\nmade anew\n")
    assert [(hit.line, hit.text) for hit in scan([page])] == [(3, "carried on"), (9, "anew")]
    code = tmp_path / "code.py"
    code.write_text(
        '"""It lets go\nof memory."""\n\n'
        "anew = 1  # a name\n# what is carried\n# on\n"
        'x = ("made an"\n     "ew") + f"{anew} anew"\n'
    )
    assert [(hit.line, hit.text) for hit in scan([code])] == [
        (1, "lets go of"),
        (5, "carried on"),
        (7, "anew"),
        (8, "anew"),
    ]
    assert scan([page], allowed={"page.md": ("carried\non", "made anew")}) == []


def test_ordinary_english_passes_the_scan(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "There is no GPU. It is no longer used. Is there no other way? Who wrote it? Measure what is made.\n"
        "The takes are told apart. It goes on sale. What is a latent? Go by train. As far as possible.\n"
    )
    assert scan([page], (*DIALECT, *TERMS)) == []


def test_the_page_of_nodes_has_every_input_of_every_node_and_no_other() -> None:
    texts = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    parts = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", read("docs/nodes.md"), re.MULTILINE | re.DOTALL))
    for node in texts.values():
        rows = re.findall(r"^\| (`[^|]*`) \|", parts[node["display_name"]], re.MULTILINE)
        named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
        assert sorted(named) == sorted(node["inputs"]), node["display_name"]


def test_the_page_of_the_study_is_what_its_generator_writes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="NO matplotlib: the page of the sampler study was not compared")
    from benchmarks.sampler_study.page import PAGE, write_report

    page, *_ = write_report(ROOT / "docs" / "sampler-study.jsonl", tmp_path)
    assert page.read_text(encoding="utf-8") == read(f"docs/{PAGE}")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_and_modules_that_documents_name_exist(document: str) -> None:
    text = read(document)
    folders = "audiox_ext|benchmarks|docs|examples|locales|nodes|pocket|tests|tools|web"
    missing = [
        name for name in re.findall(rf"`((?:{folders})/[\w./-]+)`", text) if not (ROOT / name).exists()
    ]
    for module in re.findall(rf"python -m ((?:{folders})(?:\.\w+)*)", text):
        path = ROOT / module.replace(".", "/")
        if not (path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()):
            missing.append(module)
    assert not missing


def options_of(arguments: list[str]) -> set[str]:
    """The long options that a command's help lists, except --help."""
    call = [sys.executable, "-m", *arguments, "--help"]
    done = subprocess.run(call, capture_output=True, text=True, check=True, cwd=ROOT)
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", done.stdout)) - {"--help"}


def part_of(document: str, *titles: str) -> str:
    """The text of some sections of a document, with their subsections."""
    text = read(document)
    parts = []
    for title in titles:
        heading = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
        assert heading is not None, title
        after = text[heading.end() :]
        end = re.search(rf"^#{{1,{len(heading[1])}}} ", after, re.MULTILINE)
        parts.append(after[: end.start()] if end else after)
    return "\n".join(parts)


COMMAND_LINE, TRAINING = "docs/command-line.md", "docs/training.md"


@pytest.mark.parametrize(
    ("command", "document", "titles"),
    [
        ("audiox_ext generate", COMMAND_LINE, ("generate",)),
        ("audiox_ext edit", COMMAND_LINE, ("generate", "edit and extend")),
        ("audiox_ext extend", COMMAND_LINE, ("generate", "edit and extend")),
        ("audiox_ext extract", COMMAND_LINE, ("extract", "generate")),
        ("audiox_ext inspect", COMMAND_LINE, ("inspect",)),
        ("audiox_ext convert", COMMAND_LINE, ("convert",)),
        ("audiox_ext view", COMMAND_LINE, ("view and level",)),
        ("audiox_ext level", COMMAND_LINE, ("view and level",)),
        ("audiox_ext train lora", TRAINING, ("On the command line",)),
        ("audiox_ext train finetune", TRAINING, ("On the command line", "Fine-tuning a whole network")),
        ("pocket dataset", TRAINING, ("Training a model from scratch",)),
        ("pocket train autoencoder", TRAINING, ("Training a model from scratch",)),
        ("pocket train sync", TRAINING, ("Training a model from scratch",)),
        ("pocket train diffusion", TRAINING, ("Training a model from scratch",)),
    ],
)
def test_the_documents_explain_every_option(command: str, document: str, titles: tuple[str, ...]) -> None:
    pytest.importorskip("torch", reason="NO torch: the options of the commands were not compared")
    of_all_commands = {"--verbose", "--models", "--output"}
    missing = (
        options_of(command.split())
        - of_all_commands
        - set(re.findall(r"--[a-z][a-z-]*", part_of(document, *titles)))
    )
    assert not missing
    assert "`--models FOLDER`" in read(COMMAND_LINE)


def test_the_documents_name_no_option_that_is_gone() -> None:
    pytest.importorskip("torch", reason="NO torch: the options of the commands were not compared")
    commands = ["generate", "edit", "extend", "extract", "inspect", "convert", "view", "level", "train lora"]
    known = {"--help"}
    for command in commands:
        known |= options_of(["audiox_ext", *command.split()])
    assert set(re.findall(r"`(--[a-z][a-z-]*)", read(COMMAND_LINE))) <= known


def python_examples() -> list[tuple[str, str]]:
    """(document, code) of every Python block in the documents."""
    return [
        (document, code)
        for document in DOCUMENTS
        for code in re.findall(r"^```python\n(.*?)^```$", read(document), re.MULTILINE | re.DOTALL)
    ]


@pytest.mark.parametrize(("document", "code"), python_examples())
def test_python_examples_import_and_call_what_exists(document: str, code: str) -> None:
    pytest.importorskip("torch", reason="NO torch: the Python examples of the documents were not checked")
    tree = ast.parse(code, document)
    imported = {
        name.asname or name.name: getattr(importlib.import_module(statement.module or ""), name.name)
        for statement in ast.walk(tree)
        if isinstance(statement, ast.ImportFrom)
        for name in statement.names
    }
    assert imported
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in calls:
        if not isinstance(call.func, ast.Name) or call.func.id not in imported:
            continue
        parameters = inspect.signature(imported[call.func.id]).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            continue
        accepted = {parameter.name for parameter in parameters}
        assert {keyword.arg for keyword in call.keywords} <= accepted, ast.unparse(call)


@pytest.mark.slow
def test_python_examples_pass_the_type_check(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="NO mypy: the types in the documents' examples were not checked")
    # The blocks of one document follow each other, as a reader runs them.
    for document, code in python_examples():
        with (tmp_path / f"{Path(document).stem}.py").open("a", encoding="utf-8") as file:
            file.write(code)
    files = sorted(map(str, tmp_path.iterdir()))
    command = [sys.executable, "-m", "mypy", "--follow-imports", "silent", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_python_page_names_public_classes() -> None:
    pytest.importorskip("torch", reason="NO torch: the names on the Python page were not checked")
    import audiox_ext

    names = set(re.findall(r"`([A-Z][a-z]+[A-Z]\w+)`", prose("docs/python.md")))
    assert names
    assert not [name for name in sorted(names) if not hasattr(audiox_ext, name)]
