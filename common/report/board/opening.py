"""The page through which the printed links open TensorBoard: it lets charts show all points.

"Ignore outliers in chart scaling" is on by default. TensorBoard then makes the axes for the values
from the 5 % to the 95 % quantile, with a fifth of that range added on both sides. A scaling curve
has few points: the most devices of the fastest series, or the end of an interval, are cut off. No
address, layout or event file sets this option: TensorBoard keeps it in the browser. This page sets
it there, and goes on to the page of TensorBoard that its query and fragment name.
"""

import base64
import hashlib
from typing import Any

from tensorboard.backend import http_util
from tensorboard.plugins import base_plugin
from werkzeug import wrappers

_SCRIPT = """
localStorage.setItem("_ignoreYOutliers", "false");
const settings = JSON.parse(localStorage.getItem("_tb_global_settings") || "{}");
settings.ignoreOutliers = false;
localStorage.setItem("_tb_global_settings", JSON.stringify(settings));
location.replace("../../../" + location.search + location.hash);
"""
"""The older pages read the first item, time series reads the second one."""
_PAGE = f'<!doctype html><meta charset="utf-8"><title>isoscale</title><script>{_SCRIPT}</script>'


@wrappers.Request.application
def _open(request: wrappers.Request) -> Any:
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    return http_util.Respond(request, _PAGE, "text/html", csp_scripts_sha256s=[digest])


class Opening(base_plugin.TBPlugin):
    """A plugin of TensorBoard with this page and without a tab."""

    plugin_name = "isoscale"

    def get_plugin_apps(self) -> dict[str, Any]:
        """Returns path below ``/data/plugin/isoscale`` -> application."""
        return {"/open": _open}

    def is_active(self) -> bool:
        """Returns False: there is nothing to show in a tab."""
        return False
