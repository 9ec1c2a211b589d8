"""Checks of what happens when ComfyUI imports the pack."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from in_comfyui import BASE, IDS, PACK, load, pack, sample  # isort: split

import folder_paths

import nodes as comfy_nodes


def check_a_import_is_quick_and_light() -> None:
    start = time.process_time()
    assert asyncio.run(comfy_nodes.load_custom_node(str(PACK)))
    took = time.process_time() - start
    assert took < 0.1, f"{took:.3f} s"
    assert all(node_id in comfy_nodes.NODE_CLASS_MAPPINGS for node_id in IDS)
    for node_id in IDS:
        comfy_nodes.NODE_CLASS_MAPPINGS[node_id].GET_NODE_INFO_V1()
    root = str(PACK).replace(".", "_x_")
    engine = {name.removeprefix(root) for name in sys.modules if name.startswith(f"{root}.audiox_ext")}
    light = {
        ".audiox_ext",
        ".audiox_ext.errors",
        ".audiox_ext.files",  # imports the standard library alone
        ".audiox_ext.license",
        ".audiox_ext.utf8",  # likewise
        ".audiox_ext.checkpoints",  # the package itself, whose __init__ is empty
        ".audiox_ext.checkpoints.catalog",
        ".audiox_ext.checkpoints.untrusted",  # likewise empty
        ".audiox_ext.checkpoints.untrusted.names",  # checks a name
    }
    assert engine <= light, f"imported before a node runs: {sorted(engine - light)}"
    assert "audiox_ext" not in sys.modules
    assert not any(str(PACK) in place for place in sys.path)


def check_switched_off_registers_nothing() -> None:
    extension = pack("nodes.extension").AudioXExtension()
    try:
        for value, count in (("1", 0), ("true", 0), ("Yes", 0), ("on", 0), ("0", len(IDS)), ("", len(IDS))):
            os.environ["AUDIOX_DISABLE"] = value
            assert len(asyncio.run(extension.get_node_list())) == count, value
    finally:
        del os.environ["AUDIOX_DISABLE"]
    assert len(asyncio.run(extension.get_node_list())) == len(IDS)


def check_model_folders_keep_what_others_registered() -> None:
    paths = pack("nodes.comfy.paths")
    paths.register_model_folders()
    extra = str(BASE / "elsewhere")
    folder_paths.add_model_folder_path("audiox", extra)
    folder_paths.add_model_folder_path("mmaudio", extra)
    paths.register_model_folders()
    folders, extensions = folder_paths.folder_names_and_paths["audiox"]
    assert folders == [str(BASE / "models" / "audiox"), extra]
    assert extensions == {".safetensors", ".ckpt"}
    folders = paths.get_model_folders()
    assert folders.audiox == (BASE / "models" / "audiox", BASE / "elsewhere")
    assert folders.synchformer == (BASE / "models" / "selva", BASE / "elsewhere", BASE / "models" / "mmaudio")
    assert folders.text_encoders[0] == BASE / "models" / "text_encoders"


def check_sampler_names_are_the_engines() -> None:
    sample(load("tiny-turbo"), steps=1)
    assert pack("nodes.shared.sampler_inputs").SAMPLERS == pack("audiox_ext.config").SAMPLER_NAMES
