"""``isoscale board``: shows studies in TensorBoard."""

import contextlib
import dataclasses
import errno
import ipaddress
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.flags import Flags
from isoscale.common.processes import launch
from isoscale.common.processes.ports import free_port
from isoscale.common.report.study.data import PLOTS, load_study
from isoscale.common.study.find import find_study, split_studies
from isoscale.common.study.store import RESULTS, Store

LOOPBACK = "127.0.0.1"
_START_SECONDS = 120
_LOOK_SECONDS = 5.0
"""How often a study is looked at for new runs."""
_MOST_RUNS = 40
"""TensorBoard shows none by itself where more runs than that match a filter."""
_LEAST_SAMPLES = 100_000


def define_flags() -> Flags:
    fv = Flags(
        usage=(
            "Shows one study, or several side by side, in TensorBoard, until Ctrl-C.\n\n"
            "  isoscale board                  the newest study in --out_dir\n"
            "  isoscale board STUDY            a name inside --out_dir, or a study's folder\n"
            "  isoscale board STUDY STUDY ...  several, side by side\n\n"
            "Writes event files to STUDY/tensorboard (a view, which can be deleted at any time)\n"
            "and takes up new runs of a study that is still running, which costs that study some\n"
            "of its cores' time. Exit code: 0 ended by Ctrl-C or SIGTERM, 1 TensorBoard failed, 2\n"
            "bad input."
        )
    )
    fv.text("out_dir", "runs/out", "folder that holds the studies")
    fv.integer(
        "port", 6006, "TCP port; 0: any free one (default: another one if it is taken)", minimum=0
    )
    fv.text(
        "host", LOOPBACK, "address to listen on; others than loopback can be reached from outside"
    )
    return fv


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoardRequest:
    """What the user asked for.

    Attributes:
      studies: by the name under which they are shown.
      host, port: where TensorBoard listens.
      remarks: what to say about that.
    """

    studies: dict[str, Store]
    host: str
    port: int
    remarks: list[str]


def _is_free(host: str, port: int) -> bool:
    """Returns whether a port can be listened on.

    Raises:
      ConfigError: the host is none of this machine's addresses.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError, OverflowError):
        raise ConfigError(f"--host={host}, --port={port}: not an address") from None
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except PermissionError:
            raise ConfigError(f"--port={port} needs privileges; take one above 1023") from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise ConfigError(f"--host={host} is not an address of this machine") from None
    return True


def _shown_names(stores: Sequence[Store]) -> dict[str, Store]:
    """Returns the studies by name; those of one name by their folders' names too."""
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
    """Parses the command line and finds the studies; returns None if help was printed.

    Raises:
      ConfigError: bad input; nothing has been written.
    """
    names, flags = split_studies(argv)
    fv = define_flags()
    if not fv.parse(flags):
        return None
    wanted: list[str | None] = [*names] if names else [None]
    found = [find_study(name, fv.out_dir) for name in wanted]
    remarks = [] if names else [f"The newest study in {fv.out_dir}: {found[0].folder.name}"]
    stores = list({store.folder.resolve(): store for store in found}.values())
    port = fv.port
    if port > 65535:
        raise ConfigError(f"--port={port} must be 65535 at most")
    is_free = _is_free(fv.host, port)  # also says what is wrong with the host
    if port == 0 or not is_free:
        if fv.given("port") and port:
            raise ConfigError(f"--port={port} is taken")
        free = free_port()
        if port:
            remarks.append(f"Port {port} is taken; this is {free}.")
        port = free
    if not _is_loopback(fv.host):
        remarks.append(f"--host={fv.host}: others can reach this TensorBoard.")
    return BoardRequest(studies=_shown_names(stores), host=fv.host, port=port, remarks=remarks)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"


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
        """Writes what is not up to date.

        Raises:
          ConfigError: a study cannot be read, or its folder cannot be written to.
        """
        changed = self._changed()
        if changed == self._seen:
            return
        self._seen = changed
        # Here, not at the top: bad input is answered before TensorBoard's parts are loaded.
        from isoscale.common.report.board.event_files import (
            join_event_files,
            write_event_files,
        )

        # All are read before anything is written.
        stores = self._studies.items()
        loaded = {name: load_study(Store(store.folder)) for name, store in stores}
        for study in loaded.values():
            try:
                write_event_files(study, plots=study.folder / PLOTS)
            except OSError as error:
                raise ConfigError(f"{error.filename} cannot be written: {error.strerror}") from None
        if len(loaded) > 1:
            join_event_files(loaded, self._folder)

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
        """What TensorBoard shows."""
        if len(self._studies) > 1:
            return self._folder
        from isoscale.common.report.board.event_files import FOLDER

        (store,) = self._studies.values()
        return store.folder / FOLDER


def run_filter(cells: Sequence[str]) -> str:
    """Returns a filter that some runs match, few enough to be shown: one of each cell if it can be.

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
    """Returns what is shown -> its address, with smoothing off.

    Time series take their smoothing from the query, the older pages from the fragment. Where more
    than 40 runs match a filter, or there is none, TensorBoard shows none of them by itself.
    """
    study = "^[^/]+/" if several else "^"

    def page(name: str, *, part: str) -> str:
        runs = quote(f"{study}{part}", safe="")
        return f"{base}/?smoothing=0#{name}&_smoothingWeight=0&regexInput={runs}"

    runs, tags = quote(runs_shown, safe=""), quote("^loss$|^window/", safe="")
    return {
        "scaling": page("custom_scalars", part="scaling/"),
        "cells": f"{base}/?smoothing=0#hparams",
        "loss and step time": f"{base}/?smoothing=0&runFilter={runs}&tagFilter={tags}#timeseries",
        "conditions": page("text", part="report$"),
        "figures": page("images", part="report$"),
    }


def _wait_until_it_answers(
    process: subprocess.Popen, base: str, log: Path, *, title: str
) -> str | None:
    """Returns None, or why TensorBoard does not answer; ``title`` is what tells it from others."""
    # A proxy of the environment does not know our loopback.
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
        except (OSError, ValueError, AttributeError):
            ours, runs = False, b"[]"  # not yet, or another server
        if ours and runs != b"[]":
            return None
        time.sleep(0.1)
    return f"TensorBoard did not answer within {_START_SECONDS} s"


def _why_it_left(code: int, log: Path) -> str:
    said = launch.last_line(log)
    return f"TensorBoard {launch.describe_exit(code)}" + (f"; it said: {said}" if said else "")


def serve(request: BoardRequest) -> int:
    """Shows the studies until interrupted; returns the exit code if TensorBoard ends by itself.

    Raises:
      ConfigError: a study cannot be read or written.
      KeyboardInterrupt: the usual end; TensorBoard has gone then.
    """
    from isoscale.common.report.board.event_files import most_points

    with contextlib.ExitStack() as stack:
        # TensorBoard's own temporary files go with this folder, however it ends.
        folder = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="isoscale-board-", ignore_cleanup_errors=True)
            )
        )
        temporary, joined, log = folder / "tmp", folder / "studies", folder / "log.txt"
        temporary.mkdir()
        joined.mkdir()
        views = _Views(request.studies, joined)
        views.refresh()
        # Enough for every point, also of runs to come: TensorBoard draws lots beyond that.
        title = f"isoscale: {', '.join(request.studies)} ({os.getpid()})"
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
            environment={"TMPDIR": str(temporary)},
            log=log,
        )
        stack.callback(launch.end, [process])
        host = LOOPBACK if request.host in ("0.0.0.0", "::") else request.host
        base = f"http://{f'[{host}]' if ':' in host else host}:{request.port}"
        problem = _wait_until_it_answers(process, base, log, title=title)
        if problem is None:
            print(*request.remarks, *_text(request, base, views), sep="\n", flush=True)
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_SECONDS)
                try:
                    views.refresh()
                except (ConfigError, OSError) as error:  # it may be at work just now
                    print(f"isoscale: {error}; looking again later", file=sys.stderr)
            problem = _why_it_left(process.returncode, log)
        print(f"isoscale: {problem}", file=sys.stderr)
        return 1


def _text(request: BoardRequest, base: str, views: _Views) -> list[str]:
    pattern = run_filter(views.cells())
    shown = links(base, several=len(request.studies) > 1, runs_shown=pattern)
    width = max(map(len, shown))
    return [
        f"TensorBoard shows {', '.join(request.studies)}; all without smoothing:",
        *(f"  {name:<{width}}  {link}" for name, link in shown.items()),
        *(
            [f"More than {_MOST_RUNS} cells: 'loss and step time' shows those of {pattern} first."]
            if pattern != "/run_0$"
            else []
        ),
        "'Ignore outliers in chart scaling' is on at first and can cut off curves: switch it off.",
        "Ctrl-C ends it.",
    ]


def run(argv: Sequence[str]) -> int:
    """Returns the exit code: 0 ended by the user, 1 TensorBoard failed."""
    try:
        request = read_request(argv)
        return 0 if request is None else serve(request)
    except KeyboardInterrupt:  # the usual end
        return 0
