"""Share the tests among two processes so that both end at about the same time.

pytest-xdist's --dist loadfile keeps the tests of a file in one process, but starts the files with most tests
first. Here the files that take longest come first, and files that use the same costly fixture are one group.
"""

from __future__ import annotations

from typing import Any

# Files and folders whose tests share something slow to set up: a server, classifiers, a trained model.
SHARED: dict[str, tuple[str, ...]] = {
    "server": ("comfyui/",),
    "classifier": (
        "benchmarks/test_quality.py",
        "benchmarks/test_lora_benchmark.py",
        "benchmarks/test_sampler_study.py",
        "pocket/test_measures.py",
        "pocket/test_pocket_checks.py",
    ),
    "trained": (
        "pocket/test_inherited_licences.py",
        "pocket/test_resumed_parts.py",
        "pocket/test_trained_models.py",
        "pocket/test_training_interruptions.py",
        "pocket/test_training_runs.py",
    ),
}
# Groups and files in the order they start; the others follow.
FIRST = ("server", "classifier")


def find_group(test_id: str) -> str:
    """Find the group of a test: what shares fixtures with it, or else its file."""
    file = test_id.split("::")[0]
    return next((name for name, starts in SHARED.items() if file.startswith(starts)), file)


def start_longest_first(items: list[Any]) -> None:
    """Sort collected tests by group, those that take longest first."""
    places = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(find_group(item.nodeid), len(FIRST)))


def build_scheduler(config: Any, log: Any) -> Any:
    """Build a scheduler for pytest-xdist that keeps groups together, in the order of the tests."""
    from xdist.scheduler import LoadFileScheduling

    class GroupScheduling(LoadFileScheduling):
        """Like --dist loadfile, with groups in place of files."""

        def _split_scope(self, nodeid: str) -> str:
            return find_group(nodeid)

    config.option.loadscopereorder = False
    return GroupScheduling(config, log)
