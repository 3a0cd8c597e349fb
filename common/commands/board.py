"""``isoscale board``: shows studies in TensorBoard."""

import contextlib
import dataclasses
import errno
import http.client
import ipaddress
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from isoscale.common.commands.report import missing_tensorboard
from isoscale.common.config.errors import ConfigError
from isoscale.common.config.flags import Flags, split_words
from isoscale.common.disk.folders import scratch_folder
from isoscale.common.processes import launch
from isoscale.common.processes.lock import VanishedError
from isoscale.common.processes.log_lines import telling_line
from isoscale.common.processes.ports import free_port
from isoscale.common.processes.supervise import describe_exit
from isoscale.common.registry import environments
from isoscale.common.report.board.values import DIFF
from isoscale.common.report.drawing.files import PLOTS
from isoscale.common.report.study.data import load_study
from isoscale.common.study.find import find_study
from isoscale.common.study.store import RESULTS, STUDY, Store

LOOPBACK = "127.0.0.1"
_START_SECONDS = 120
_LOOK_SECONDS = 5.0
"""Interval between two checks for new runs of a study."""
_MOST_RUNS = 40
"""If more runs match a filter, TensorBoard selects none of them."""
_LEAST_SAMPLES = 100_000
"""TensorBoard keeps at least this many points of each curve; more if a run has more steps."""


def define_flags() -> Flags:
    """Returns the flags of the command, with its help page."""
    fv = Flags(
        usage=(
            "Shows one study, or several side by side, in TensorBoard, until Ctrl-C.\n\n"
            "  isoscale board                  the newest study in --out_dir\n"
            "  isoscale board STUDY            a name inside --out_dir, or a study's folder\n"
            "  isoscale board STUDY STUDY ...  several studies, side by side\n\n"
            "Writes event files to STUDY/tensorboard. You can delete this folder: isoscale writes\n"
            "it again from the results. Adds new runs of a study that is still running; this uses\n"
            "some CPU time on the cores of that study. Exit code: 0 ended by Ctrl-C, SIGTERM or\n"
            "SIGHUP, its usual end, 1 TensorBoard failed, 2 bad input, 3 a folder cannot be read\n"
            "or written."
        )
    )
    fv.text("out_dir", "runs/out", "folder that holds the studies")
    fv.integer(
        "port",
        6006,
        "TCP port; 0: any free port; without --port: another free port if 6006 is in use",
        minimum=0,
        maximum=65535,
    )
    fv.text(
        "host",
        LOOPBACK,
        "address to listen on; other machines can reach any address except loopback",
    )
    return fv


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoardRequest:
    """The parsed and validated command line.

    Attributes:
      studies: shown name -> study.
      host, port: address and TCP port on which TensorBoard listens.
      remarks: lines for the user about the choice of study, port and host.
    """

    studies: dict[str, Store]
    host: str
    port: int
    remarks: list[str]


def _is_free(host: str, port: int) -> bool:
    """Returns whether a TCP port is free.

    Raises:
      ConfigError: the host is not an address of this machine, or the port needs privileges.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError, OverflowError):
        raise ConfigError(f"--host={host}, --port={port} is not an address") from None
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except PermissionError:
            raise ConfigError(f"--port={port} needs privileges; use a port above 1023") from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise ConfigError(f"--host={host} is not an address of this machine") from None
    return True


def _shown_names(stores: Sequence[Store]) -> dict[str, Store]:
    """Returns shown name -> study; equal names get the parent folder's name as a prefix."""
    folders = [store.folder.resolve() for store in stores]
    shown: dict[str, Store] = {}
    for store, folder in zip(stores, folders, strict=True):
        name = folder.name
        if sum(other.name == name for other in folders) > 1:
            name = f"{folder.parent.name}-{name}"
        candidate, count = name, 1
        while candidate in shown:
            count += 1
            candidate = f"{name}-{count}"
        shown[candidate] = store
    return shown


def read_request(argv: Sequence[str]) -> BoardRequest | None:
    """Returns the validated request; None if the help page was printed.

    Raises:
      ConfigError: bad input. Nothing has been written.
    """
    names, flags = split_words(argv)
    fv = define_flags()
    if not fv.parse(flags):
        return None
    wanted: list[str | None] = [*names] if names else [None]
    found = [find_study(name, fv.out_dir) for name in wanted]
    remarks = [] if names else [f"The newest study in {fv.out_dir}: {found[0].folder.name}"]
    stores = list({store.folder.resolve(): store for store in found}.values())
    port = fv.port
    is_free = _is_free(fv.host, port)  # also checks the host
    if port == 0 or not is_free:
        if fv.given("port") and port:
            raise ConfigError(f"--port={port} is in use; choose another port, or 0 for a free one")
        free = free_port()
        if port:
            remarks.append(f"Port {port} is in use; TensorBoard listens on {free}.")
        port = free
    if not _is_loopback(fv.host):
        remarks.append(f"--host={fv.host}: other machines can reach this TensorBoard.")
    return BoardRequest(studies=_shown_names(stores), host=fv.host, port=port, remarks=remarks)


def _is_loopback(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
    return all((getattr(a, "ipv4_mapped", None) or a).is_loopback for a in addresses)


class _Views:
    """The event files of all studies, and one folder that shows them."""

    def __init__(self, studies: dict[str, Store], folder: Path):
        self._studies = studies
        self._folder = folder
        self._seen: list[float] | None = None

    def _changed(self) -> list[float]:
        times = []
        for store in self._studies.values():
            for path in (store.folder / RESULTS, store.folder / PLOTS):
                times.append(path.stat().st_mtime if path.exists() else 0.0)
        return times

    def refresh(self) -> None:
        """Writes the event files again if a study has changed.

        Raises:
          ConfigError: a study cannot be read.
          FolderError: its folder cannot be written, or has vanished.
        """
        for store in self._studies.values():
            if not (store.folder / STUDY).exists():
                raise VanishedError(f"{store.folder} has vanished: it was removed")
        changed = self._changed()
        if changed == self._seen:
            return
        # Imported late: bad input must be reported before TensorBoard's modules load.
        from isoscale.common.report.board.event_files import (
            join_event_files,
            write_event_files,
        )

        # All studies are read before the first write: a damaged study leaves all files as they are.
        stores = self._studies.items()
        loaded = {name: load_study(Store(store.folder)) for name, store in stores}
        for study in loaded.values():
            write_event_files(study, plots=study.folder / PLOTS)
        if len(loaded) > 1:
            join_event_files(loaded, self._folder)
        self._seen = changed  # after an error, the next call tries again

    def cells(self) -> list[str]:
        """Returns the folder names of all cells, study by study."""
        from isoscale.common.report.board.event_files import FOLDER

        return [
            path.name
            for store in self._studies.values()
            for path in sorted((store.folder / FOLDER / "runs").glob("*"))
        ]

    @property
    def log_folder(self) -> Path:
        """The folder that TensorBoard shows."""
        if len(self._studies) > 1:
            return self._folder
        from isoscale.common.report.board.event_files import FOLDER

        (store,) = self._studies.values()
        return store.folder / FOLDER


def run_filter(cells: Sequence[str]) -> str:
    """Returns a regular expression for run names that at most 40 runs match, if possible.

    The first run of every cell is tried first; then the first runs of one model; then its ``bare``
    cells alone, which may still be more than 40.

    Args:
      cells: the folder names of cells, which begin with the model's name.
    """
    tries = ["/run_0$"]
    if cells:
        model = re.escape(cells[0].split("-")[0])
        tries += [f"/{model}-.*/run_0$", f"/{model}-.*-bare-.*/run_0$"]
    for pattern in tries:
        if sum(bool(re.search(pattern, f"/{cell}/run_0")) for cell in cells) <= _MOST_RUNS:
            return pattern
    return tries[-1]


def links(base: str, *, several: bool, runs_shown: str = "/run_0$") -> dict[str, str]:
    """Returns page name -> its address, with smoothing off and with all points in each chart.

    The time series page reads smoothing from the query, the older pages read it from the fragment.
    All links except ``cells`` filter runs: the older pages select no run if more than 40 match, the
    time series page if there are more than 500. Without a filter, all runs count as matches.

    Args:
      base: address of TensorBoard.
      several: whether several studies are shown, each in its own folder.
      runs_shown: regular expression for the runs that ``loss and step time`` shows first.
    """
    study = "^[^/]+/" if several else "^"

    # Charts must show all points: report/board/opening.py.
    opening = f"{base}/data/plugin/isoscale/open?smoothing=0"

    def page(name: str, *, part: str) -> str:
        runs = quote(f"{study}{part}", safe="")
        return f"{opening}#{name}&_smoothingWeight=0&regexInput={runs}"

    runs, tags = quote(runs_shown, safe=""), quote("^loss$|^window/", safe="")
    return {
        "scaling": page("custom_scalars", part="scaling/"),
        "cells": f"{opening}#hparams",
        "loss and step time": f"{opening}&runFilter={runs}&tagFilter={tags}#timeseries",
        "report": page("text", part=f"report$|^{DIFF}$" if several else "report$"),
        "figures": page("images", part="report$"),
    }


def _wait_until_it_answers(
    process: subprocess.Popen, base: str, log: Path, *, title: str
) -> str | None:
    """Returns None when TensorBoard answers, or the reason why it does not.

    Args:
      process: TensorBoard.
      base: its address.
      log: file with its output.
      title: its window title; another server on the port has another title.
    """
    # A proxy from the environment cannot reach this machine's loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        code = process.poll()
        if code is not None:
            return _why_it_left(code, log)
        try:
            with opener.open(f"{base}/data/environment", timeout=10) as answer:
                ours = json.load(answer).get("window_title") == title
            with opener.open(f"{base}/data/runs", timeout=10) as answer:
                runs = answer.read().strip()
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            ours, runs = False, b"[]"  # TensorBoard is starting, or another server answered
        if ours and runs != b"[]":
            return None
        time.sleep(0.1)
    return f"TensorBoard did not answer within {_START_SECONDS} s"


def _why_it_left(code: int, log: Path) -> str:
    said = telling_line(log)
    return f"TensorBoard {describe_exit(code)}" + (
        f"; last line of its log: {said}" if said else ""
    )


def serve(request: BoardRequest) -> int:
    """Shows the studies until the user interrupts.

    Returns:
      1: TensorBoard ended by itself, or did not answer in time.

    Raises:
      ConfigError, FolderError: a study cannot be read or written.
      KeyboardInterrupt: the usual end. TensorBoard has ended before this is raised.
    """
    try:
        from isoscale.common.report.board.event_files import most_points
    except ImportError as error:
        raise ConfigError(missing_tensorboard(error)) from None

    with contextlib.ExitStack() as stack:
        # TensorBoard's temporary files lie in this folder: they are removed however it ends.
        folder = stack.enter_context(scratch_folder("isoscale-board-"))
        temporary, joined, log = folder / "tmp", folder / "studies", folder / "log.txt"
        temporary.mkdir()
        joined.mkdir()
        views = _Views(request.studies, joined)
        views.refresh()
        title = f"isoscale: {', '.join(request.studies)} ({os.getpid()})"
        # ``samples`` is enough for every point of present and future runs: beyond this number
        # TensorBoard keeps a random sample of the points.
        samples = max(_LEAST_SAMPLES, 2 * most_points(views.log_folder))
        process = launch.start(
            launch.module_command(
                sys.executable,
                "isoscale.common.report.board.server",
                f"--logdir={views.log_folder.resolve()}",
                f"--host={request.host}",
                f"--port={request.port}",
                f"--samples_per_plugin=scalars={samples},images=10,text=10",
                "--reload_multifile=true",
                f"--window_title={title}",
            ),
            environment={**environments.of_worker(), "TMPDIR": str(temporary)},
            log=log,
        )
        stack.callback(launch.end, [process])
        host = LOOPBACK if request.host in ("0.0.0.0", "::") else request.host
        base = f"http://{f'[{host}]' if ':' in host else host}:{request.port}"
        problem = _wait_until_it_answers(process, base, log, title=title)
        if problem is None:
            print(*request.remarks, *_text(request, base, views), sep="\n", flush=True)
            said = ""
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_SECONDS)
                try:
                    views.refresh()
                except VanishedError:
                    raise
                except (ConfigError, OSError) as error:  # the study may be writing this file
                    if str(error) != said:
                        print(f"isoscale: {error}; trying again", file=sys.stderr)
                    said = str(error)
            problem = _why_it_left(process.returncode, log)
        print(f"isoscale: {problem}", file=sys.stderr)
        return 1


def _text(request: BoardRequest, base: str, views: _Views) -> list[str]:
    pattern = run_filter(views.cells())
    shown = links(base, several=len(request.studies) > 1, runs_shown=pattern)
    width = max(map(len, shown))
    return [
        f"TensorBoard shows {', '.join(request.studies)}. Links; charts are not smoothed or cut:",
        *(f"  {name:<{width}}  {link}" for name, link in shown.items()),
        *(
            [f"More than {_MOST_RUNS} cells: 'loss and step time' first shows runs {pattern}"]
            if pattern != "/run_0$"
            else []
        ),
        "Ctrl-C ends TensorBoard.",
    ]


def run(argv: Sequence[str]) -> int:
    """Runs the command.

    Returns:
      The exit code: 0 ended by the user, 1 TensorBoard failed.

    Raises:
      ConfigError: bad input.
      FolderError: a study cannot be read or written.
    """
    try:
        request = read_request(argv)
        return 0 if request is None else serve(request)
    except KeyboardInterrupt:  # the usual end
        return 0
