"""Checkpoints in torch's pickle format: with code, damaged, or with tensors that cannot be weights."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bad_case import Case, Place
from model_files import load_model, load_sync, make_model, pack

CODE = r"(?i)code|plain data"
DAMAGED = (
    r"(?i)damaged|incomplete|cannot be read|not a state dict|not tensors|missing|could run code|"
    r"torch never writes|may take \d+"
)


class _Call:
    """An object that calls a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


def _by_name(module: str, name: str, argument: str) -> bytes:
    """A pickle that calls a function which need not exist here."""
    return f"c{module}\n{name}\n(S{argument!r}\ntR.".encode()


def _shell(place: Place) -> str:
    return f"touch {place.canary}"


def _chain(place: Place) -> bytes:
    """os.system, found by getattr and import_module."""
    return (
        b"cbuiltins\ngetattr\n(cimportlib\nimport_module\n(S'os'\ntRS'system'\ntR"
        + f"(S{_shell(place)!r}\ntR.".encode()
    )


def _build(place: Place) -> bytes:
    """BUILD with a state that sets attributes of a class."""
    return f"ccollections\nOrderedDict\n(tR(dS'__class__'\ncos\nsystem\nsb(S{_shell(place)!r}\ntR.".encode()


PAYLOADS: dict[str, Callable[[Place], bytes]] = {
    "os.system": lambda place: pickle.dumps(_Call(os.system, _shell(place)), 2),
    "eval": lambda place: pickle.dumps(_Call(eval, f"open({str(place.canary)!r}, 'w')"), 2),
    "exec": lambda place: pickle.dumps(_Call(exec, f"open({str(place.canary)!r}, 'w')"), 2),
    "open": lambda place: pickle.dumps(_Call(open, str(place.canary), "w"), 2),
    "getattr": _chain,
    "BUILD": _build,
    "subprocess": lambda place: _by_name("subprocess", "getoutput", _shell(place)),
    "runpy": lambda place: _by_name("runpy", "run_path", str(place.outside / "secret.txt")),
    "webbrowser": lambda place: _by_name("webbrowser", "open", f"http://127.0.0.1:{place.port}"),
    "urllib": lambda place: _by_name("urllib.request", "urlopen", f"http://127.0.0.1:{place.port}"),
    "pickle in a pickle": lambda place: pickle.dumps(
        _Call(pickle.loads, pickle.dumps(_Call(os.system, _shell(place)), 2)), 2
    ),
    "a module of torch": lambda place: _by_name("torch.hub", "load", str(place.outside)),
    "a module that is not installed": lambda place: _by_name("no_such_module", "run", "x"),
    "persistent id": lambda place: b"(S'code'\ncos\nsystem\ntQ.",
}


def _load_payloads() -> list[Case]:
    """Code in every file that a pickle may be read from."""
    cases = []
    for name, payload in PAYLOADS.items():
        cases += [
            Case(
                f"{name} in an archive",
                lambda p, make=payload: make_model(p, pack(make(p))),
                load_model,
                CODE,
            ),
            Case(
                f"{name}, bare", lambda p, make=payload: make_model(p, make(p)), load_model, f"{CODE}|damaged"
            ),
        ]
    system = PAYLOADS["os.system"]
    return [
        *cases,
        Case(
            "os.system, deflated",
            lambda p: make_model(p, pack(system(p), deflate=True)),
            load_model,
            f"{CODE}|compress",
        ),
        Case(
            "os.system, protocol 5",
            lambda p: make_model(p, pack(pickle.dumps(_Call(os.system, _shell(p)), 5))),
            load_model,
            CODE,
        ),
        Case("os.system in a student", _make_student, load_model, CODE),
        Case("os.system in Synchformer", lambda p: p.write("sync.pth", pack(system(p))), load_sync, CODE),
        Case(
            "os.system as .safetensors",
            lambda p: make_model(p, pack(system(p)), "model.safetensors"),
            load_model,
            DAMAGED,
        ),
        Case("os.system, to inspect", lambda p: make_model(p, pack(system(p))), _inspect, CODE),
        Case("os.system, to convert", lambda p: make_model(p, pack(system(p))), _convert, CODE),
    ]


def _make_student(place: Place) -> Path:
    folder = make_model(place, None)
    (folder / "model.safetensors").unlink()
    for name in ("audiox_turbo/audiox_turbo.ckpt", "pretransform/vae.ckpt"):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(pack(PAYLOADS["os.system"](place)))
    return folder


def _inspect(folder: Path) -> Any:
    from bad_case import run_command

    return run_command(["inspect", str(folder)])


def _convert(folder: Path) -> Any:
    from audiox_ext.checkpoints.conversion import convert_checkpoint

    return convert_checkpoint(str(folder), folder.parent / "converted", accept_cc_by_nc=True)


# Damage


def _good(place: Place) -> bytes:
    """The sample's weights as a torch archive."""
    import torch
    from safetensors.torch import load_file

    target = io.BytesIO()
    torch.save({"state_dict": load_file(place.samples / "model" / "model.safetensors")}, target)
    return target.getvalue()


def _legacy(place: Place) -> bytes:
    """The beginning of torch's oldest format, a tar archive."""
    import tarfile

    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name in ("storages", "tensors", "pickle", "sys_info"):
            content = PAYLOADS["os.system"](place)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def _storage(size: int, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """A pickled state dict with a tensor that lies about its storage."""
    parts = [b"(dS'x'\n", b"ctorch._utils\n_rebuild_tensor_v2\n(("]
    parts += [f"S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI{size}\ntQI{offset}\n".encode()]
    parts += ["".join(["(", *(f"I{n}\n" for n in numbers), "t"]).encode() for numbers in (shape, stride)]
    return b"".join([*parts, b"I00\nccollections\nOrderedDict\n(tRtRs."])


def _bomb(megabytes: int) -> bytes:
    """An archive whose pickle is deflated zeros."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("archive/data.pkl", "w", force_zip64=True) as entry:
            for _ in range(megabytes):
                entry.write(bytes(1 << 20))
        archive.writestr("archive/version", "3\n")
    return target.getvalue()


def _nested() -> bytes:
    """An archive in an archive in an archive."""
    inner = pack(b"}.")
    for _ in range(3):
        inner = pack(inner)
    return inner


def _encrypted() -> bytes:
    """An archive that says that its entries are encrypted."""
    data = bytearray(pack(b"}."))
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = data.find(mark)
        while start >= 0:
            data[start + at] |= 1
            start = data.find(mark, start + 1)
    return bytes(data)


def _lying_size() -> bytes:
    """An archive whose directory claims 4 GB for an entry."""
    data = bytearray(pack(b"}."))
    start = data.find(b"PK\1\2")
    data[start + 20 : start + 28] = b"\xfe\xff\xff\xff" * 2
    return bytes(data)


DAMAGES: dict[str, Callable[[Place], bytes]] = {
    "empty": lambda place: b"",
    "one byte": lambda place: b"P",
    "the magic number alone": lambda place: b"PK\3\4",
    "a hundred bytes": lambda place: _good(place)[:100],
    "half of it": lambda place: _good(place)[: len(_good(place)) // 2],
    "without its last byte": lambda place: _good(place)[:-1],
    "without its first byte": lambda place: _good(place)[1:],
    "zeros": lambda place: bytes(100_000),
    "text": lambda place: b"weights " * 1000,
    "a web page": lambda place: b"<!DOCTYPE html><html><body>Not found</body></html>",
    "a Git LFS pointer": lambda place: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "gzip": lambda place: gzip.compress(bytes(1000), mtime=0),
    "tar": _legacy,
    "deflated bomb of 512 MB": lambda place: _bomb(512),
    "nested archives": lambda place: _nested(),
    "encrypted entries": lambda place: _encrypted(),
    "an entry that claims 4 GB": lambda place: _lying_size(),
    "without a pickle": lambda place: pack(b"").replace(b"data.pkl", b"date.pkl"),
    "an empty pickle": lambda place: pack(b""),
    "a pickle without an end": lambda place: pack(b"(" * 1000),
    "a deep pickle": lambda place: pack(b"(" * 200_000 + b"t" * 200_000 + b"."),
    "a pickle that memoises without end": lambda place: pack(
        b"]" + b"".join(b"q%c" % (i % 250) for i in range(100_000))
    ),
    "a text that claims 2 GB": lambda place: pack(b"X\xff\xff\xff\x7fabc."),
    "a storage that is missing": lambda place: pack(_storage(4, (4,), (1,))),
    "a storage that claims 4 TB": lambda place: pack(
        _storage(10**12, (10**12,), (1,)), {"archive/data/0": bytes(16)}
    ),
    "a tensor beyond its storage": lambda place: pack(
        _storage(4, (10**6,), (1,)), {"archive/data/0": bytes(16)}
    ),
    "a negative size": lambda place: pack(_storage(4, (-4,), (1,)), {"archive/data/0": bytes(16)}),
    "a negative offset": lambda place: pack(_storage(4, (2,), (1,), -1), {"archive/data/0": bytes(16)}),
    "a tensor of stride 0 with 10^12 values": lambda place: pack(
        _storage(4, (10**6, 10**6), (0, 0)), {"archive/data/0": bytes(16)}
    ),
    "a list": lambda place: pack(b"(l."),
    "a number": lambda place: pack(b"I5\n."),
    "None": lambda place: pack(b"N."),
    "no tensors": lambda place: pack(b"(dS'state_dict'\n(ds."),
}


# Tensors that cannot be weights


def _with_tensors(change: Callable[[Any], Any]) -> Callable[[Place], Path]:
    """Make a model whose matrices are changed."""

    def make(place: Place) -> Path:
        import torch
        from safetensors.torch import load_file

        state = load_file(place.samples / "model" / "model.safetensors")
        target = io.BytesIO()
        torch.save({"state_dict": {key: change(value) for key, value in state.items()}}, target)
        return make_model(place, target.getvalue())

    return make


def _quantise(value: Any) -> Any:
    import torch

    return torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)


def _run_nan(folder: Path) -> Any:
    """Weights of NaN are noticed at the latest in the result."""
    from audiox_ext import AudioRequest, GenerationSettings, make_audio

    settings = GenerationSettings(duration=1.0, steps=1, sampler="dpmpp-2m", short_sounds=True)
    return make_audio(load_model(folder)[0], AudioRequest(prompt="rain", settings=settings), device="cpu")


def _torch(name: str) -> Any:
    import torch

    return getattr(torch, name)


TENSORS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "meta": (lambda value: value.to("meta"), r"(?i)meta|without values|no values|has only \d+ bytes"),
    "sparse": (lambda value: value.to_sparse() if value.dim() == 2 else value, r"(?i)sparse"),
    "quantised": (_quantise, r"(?i)quanti|qint"),
    "int8": (lambda value: value.to(_torch("int8")), r"int8"),
    "bool": (lambda value: value.to(_torch("bool")), r"bool"),
    "complex": (lambda value: value.to(_torch("complex64")), r"complex"),
    "empty": (lambda value: value[:0], r"wrong shape"),
    "flat": (lambda value: value.flatten(), r"wrong shape"),
    "with one more axis": (lambda value: value[None], r"wrong shape"),
    "huge by stride 0": (
        lambda value: value.flatten()[:1].expand(10**12),
        r"wrong shape|claims 10+",
    ),
    "a class of its own": (lambda value: _torch("nn").Parameter(value[..., :0]), r"wrong shape"),
    "of texts": (lambda value: "x", r"missing|(?i:not tensors)|has only \d+ bytes"),
}


def _make_odd_file(kind: str) -> Callable[[Place], Path]:
    """Make something in place of model.ckpt that is not a plain file."""

    def make(place: Place) -> Path:
        folder = make_model(place, b"")
        path = folder / "model.ckpt"
        path.unlink()
        place.put_oddity(path, kind)
        return folder

    return make


def _make_renamed(place: Place, rename: Callable[[str], str]) -> Path:
    import torch
    from safetensors.torch import load_file

    state = load_file(place.samples / "model" / "model.safetensors")
    target = io.BytesIO()
    torch.save({rename(key): value for key, value in state.items()}, target)
    return make_model(place, target.getvalue())


def list_cases() -> list[Case]:
    """All cases of this module."""
    damage = [
        Case(
            name, lambda p, make=make: make_model(p, make(p)), load_model, DAMAGED, kind="damaged checkpoint"
        )
        for name, make in DAMAGES.items()
    ]
    tensors = [
        Case(name, _with_tensors(change), load_model, pattern, kind="tensors of a checkpoint")
        for name, (change, pattern) in TENSORS.items()
    ]
    tensors += [
        Case(
            "NaN", _with_tensors(lambda value: value * float("nan")), _run_nan, r"(?i)nan|not a number|finite"
        ),
        Case("other names", lambda p: _make_renamed(p, lambda key: f"x.{key}"), load_model, r"missing"),
        Case(
            "names with lone surrogates",
            lambda p: _make_renamed(p, lambda key: f"{key}\ud800"),
            load_model,
            DAMAGED,
        ),
        Case("weights of another model", _make_other, load_model, r"wrong shape|missing|unexpected"),
    ]
    odd = [
        Case(
            name,
            _make_odd_file(name),
            load_model,
            r"(?i)no weights|not exist|not a file|damaged|cannot|regular|missing",
        )
        for name in ("a folder", "a pipe", "a device", "a link to itself")
    ]
    return [
        *(replace(case, kind="code in a pickle") for case in _load_payloads()),
        *damage,
        *(replace(case, kind="tensors of a checkpoint") for case in tensors),
        *(replace(case, kind="no file at all") for case in odd),
    ]


def _make_other(place: Place) -> Path:
    folder = make_model(place, None)
    config = json.loads((folder / "config.json").read_text())
    config["model"]["diffusion"]["config"]["depth"] = 3
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config))
    return folder
