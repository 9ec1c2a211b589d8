"""Phrases that read like a translation, and a scan that finds them in documents and in code."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# (pattern, what to say instead). A space matches any white space, so a line break does not hide a phrase.
# Where a pattern has a group `hit`, only that counts; a match without it is ordinary English.
DIALECT: tuple[tuple[str, str], ...] = (
    (r"\banew\b", "again; re-encode, replace, rebuild"),
    (r"\bbegins? anew\b", "start over"),
    (r"\blearn(?:s|t|ed|ing)? (?:\w+ )?by heart\b", "overfit"),
    (r"\blet(?:s|ting)? go of\b", "release, free"),
    (r"\b(?:take|takes|taken|took) for (?:a|an|the|its|their|one)\b", "treat as, mistake for"),
    (r"\bcarried on\b|\bcarr(?:y|ies|ying) (?:it|(?:a|the) (?:track|sound)) on\b", "extend, continue"),
    (r"\b(?:lead|leads|leading|led) up to\b", "introduce, precede"),
    (
        r"\bas far as (?:it|they|there|its|their|that) (?:is|are|goes|go|type|types)\b",
        "current limits; where",
    ),
    (r"\bhow far (?:it|they) (?:is|are)\b", "current limits"),
    (r"\bto go by\b|\bgo(?:es|ing)? by (?:itself|the|its|what)\b", "reference; use, follow"),
    (r"\b(?:go|goes|going|went) on (?:from|where|making|with (?:it|the|a|its))\b", "resume, continue"),
    (
        r"\b[Tt]here (?:is|are|was|were) no\b"
        r"|(?P<hit>\b(?:is|are|was|were) no (?!(?:longer|more|less|better|worse|doubt)\b)[a-z]+)",
        "is not a",
    ),
    (r"\banother one\b", "a different one, a second one"),
    (r"\bwith what\b|\bof which (?:it|this|the model) knows\b", "name the thing"),
    (r"\bnothing of (?:it|them|that|this)\b", "none of it; name the thing"),
    (r"\bby (?:itself|themselves)\b", "on its own, automatically"),
    (r"\btold(?! apart)\b", "said, reported, passed"),
    (r"\bcomes? to (?=\d|a |an |the |be )", "adds up to, becomes"),
    (r"\bwill do\b", "is enough, works"),
    (r"\bhad better\b", "should"),
    (r"\b(?:model|network) (?:hears|heard)\b|\bheard as\b", "uses; recognised as"),
    (r"\bnot to be trusted\b", "unreliable, lossy, approximate"),
    (r"\bled astray\b|\blead(?:s)? astray\b", "mislead, deviate"),
    (
        r"\bone (?:a|an) (?:frame|step|sound|node|batch|item|file|layer|channel|line|second|window)\b",
        "one per",
    ),
    (r"(?:^|[.!?:] )Who (?!(?:is|are|was|were)\b)\w+s\b(?=[^.?!]*[.!])", "If you"),
    (
        r"(?:^|[.!?] )What (?:is|are|was|were|has|have|cannot|lies|comes|it|they) (?=[^.?!]*\.(?:\s|$))",
        "subject first",
    ),
)

# Terms of the glossary, for texts that users read.
TERMS: tuple[tuple[str, str], ...] = (
    (r"(?<![-\w])[Ss]olvers?\b(?!-)", "sampler"),
    (r"\bpages? of (?:a|the) file\b|\bmapped pages\b", "memory-mapped"),
    (r"\blate folding\b", "weight-norm folding"),
    (r"\b(?:empty context|zero items)\b", "unconditional or negative context"),
    (r"\bshares? of (?:the|a|an|all)\b", "fraction of"),
    (r"\bwhat the network says\b", "prediction"),
)


@dataclass(frozen=True)
class Phrase:
    """A phrase found in a file.

    Attributes:
        path: The file.
        line: The line where it starts, from 1.
        text: The phrase itself.
        instead: What to say instead.
    """

    path: Path
    line: int
    text: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text!r}; say: {self.instead}"


def scan(
    files: Iterable[Path],
    phrases: Iterable[tuple[str, str]] = DIALECT,
    allowed: Mapping[str, Iterable[str]] | None = None,
) -> list[Phrase]:
    """Find phrases in Markdown files, and in comments, docstrings and strings of Python files.

    Args:
        files: .md and .py files. Code blocks and code spans of Markdown are skipped.
        phrases: (pattern, what to say instead) pairs, such as `DIALECT`.
        allowed: By file name, quotations that may stay, as they stand in the file.

    Returns:
        The phrases, file by file, in order of their lines.
    """
    compiled = [(re.compile(pattern.replace(" ", r"\s+"), re.MULTILINE), say) for pattern, say in phrases]
    results = []
    for path in files:
        quotations = tuple((allowed or {}).get(path.name, ()))
        for first, text in sorted(readable_texts(path)):
            for quotation in quotations:
                text = text.replace(quotation, "\n" * quotation.count("\n"))
            hits = [
                (match, say)
                for pattern, say in compiled
                for match in pattern.finditer(text)
                if match.groupdict().get("hit", match[0]) is not None
            ]
            for match, say in sorted(hits, key=lambda hit: hit[0].start()):
                line = first + text[: match.start()].count("\n")
                results.append(Phrase(path, line, " ".join(match[0].split()), say))
    return results


def readable_texts(path: Path) -> Iterator[tuple[int, str]]:
    """(first line, text) of everything in a file that people read; lines keep their numbers."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from _python_texts(text)
    else:
        yield 1, _without_code(text)


def _without_code(markdown: str) -> str:
    """Markdown with blank lines in place of code blocks, and spaces in place of code spans and links."""
    text = re.sub(
        r"^```.*?^```$", lambda m: "\n" * m[0].count("\n"), markdown, flags=re.MULTILINE | re.DOTALL
    )
    return re.sub(r"\]\([^)\s]+\)", "]", _without_spans(text))


def _python_texts(source: str) -> Iterator[tuple[int, str]]:
    """Every string, with its parts joined, then the comments, those of neighbouring lines joined."""
    joined: set[ast.expr] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            joined |= set(node.values)
            pieces = [part.value if isinstance(part, ast.Constant) else " x " for part in node.values]
            yield node.lineno, _without_spans("".join(map(str, pieces)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in joined:
            yield node.lineno, _without_spans(node.value)
    first, lines = 0, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if lines and token.start[0] != first + len(lines):
            yield first, "\n".join(lines)
            lines = []
        first = first if lines else token.start[0]
        lines.append(_without_spans(token.string.lstrip("#")))
    if lines:
        yield first, "\n".join(lines)


def _without_spans(text: str) -> str:
    return re.sub(r"`[^`\n]+`", " ", text)
