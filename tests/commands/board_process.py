"""Starts ``isoscale board`` as users do, and sends requests to TensorBoard."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

MAIN = "isoscale.common.commands.main"

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Board:
    """A running board.

    Attributes:
      process: the ``isoscale`` process.
      text: its standard output.
      links: page name -> address.
    """

    process: subprocess.Popen
    text: str
    links: dict[str, str]

    @property
    def base(self) -> str:
        return re.match(r"http://[^/]+", self.links["scaling"]).group()

    def get(self, path: str, **query: str) -> Any:
        """Returns the JSON value at a path; bytes if the answer is not JSON."""
        address = f"{self.base}/data/{path}?{urllib.parse.urlencode(query)}"
        return _read(address)

    def post(self, path: str, body: Any) -> Any:
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        return _read(urllib.request.Request(f"{self.base}/data/{path}", data, headers))

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def _read(address: Any) -> Any:
    with _OPENER.open(address, timeout=60) as answer:
        content = answer.read()
        is_json = answer.headers.get_content_type() == "application/json"
    return json.loads(content) if is_json else content


def wait_for(condition: Callable[[], Any], *, seconds: float = 60) -> Any:
    """Returns the first true value of ``condition``; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"the condition stayed false for {seconds} s")


@contextmanager
def running_board(folder: Path, *arguments: str) -> Iterator[Board]:
    """Runs ``isoscale board`` in a folder and ends it by SIGINT, as Ctrl-C does."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            MAIN,
            "board",
            "--port=0",
            *arguments,
        ],
        cwd=folder,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        text = "".join(lines)
        assert "Ctrl-C" in text, f"no board: {text}"
        links = dict(re.findall(r"^  (\S.*?)  +(http://\S+)$", text, flags=re.MULTILINE))
        yield Board(process=process, text=text, links=links)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            process.stdout.close()
