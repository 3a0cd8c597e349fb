"""Which tests one pytest worker runs together, under ``pytest -n 2`` (a plugin of conftest.py).

pytest-xdist has this as ``--dist=loadgroup``, which does not work with pytest 9.2: it writes the
group to a field of the test that pytest no longer has.
"""

import json
import tempfile
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

_FILE = pytest.StashKey[Path]()


class GroupScheduling(LoadScopeScheduling):
    """Gives whole groups to workers, in the order of collection; workers name the groups."""

    def _split_scope(self, nodeid: str) -> str:
        if not hasattr(self, "_groups"):
            self._groups = json.loads(self.config.stash[_FILE].read_text())
        return self._groups[nodeid]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> GroupScheduling:
    config.option.loadscopereorder = False
    return GroupScheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:
    """Tells a worker where it writes its groups."""
    if _FILE not in node.config.stash:
        folder = tempfile.TemporaryDirectory(prefix="isoscale-tests-")
        node.config.add_cleanup(folder.cleanup)
        node.config.stash[_FILE] = Path(folder.name) / "groups.json"
    node.workerinput["groups"] = str(node.config.stash[_FILE])


def tell(config: pytest.Config, groups: dict[str, str]) -> None:
    """Passes test -> group on to the scheduler; without workers nothing is done."""
    workerinput = getattr(config, "workerinput", None)
    if workerinput is not None:
        path = Path(workerinput["groups"])
        own = path.with_suffix(f".{workerinput['workerid']}")
        own.write_text(json.dumps(groups))
        own.replace(path)  # every worker writes the same
