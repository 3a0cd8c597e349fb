"""The mesh axes of a strategy are checked before a run starts."""

import pytest

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.framework_info import StrategyInfo
from isoscale.common.config.mesh import Mesh
from isoscale.common.registry import lookup
from isoscale.common.registry.build_config import check_mesh


def _info(*axes: str) -> StrategyInfo:
    return StrategyInfo(summary="s", process_model="single", max_devices=None, mesh_axes=axes)


def test_an_unknown_mesh_axis_is_refused() -> None:
    with pytest.raises(
        ValueError, match="mesh axis 'dta' is unknown; known: data, fsdp, expert, tensor"
    ):
        _info("dta")


def test_a_mesh_axis_that_the_strategy_does_not_use_is_refused() -> None:
    check_mesh(Mesh(data=4), _info("data"), strategy="s")
    check_mesh(Mesh(), _info(), strategy="s")
    with pytest.raises(ConfigError, match="fsdp=2: strategy 's' uses data"):
        check_mesh(Mesh(data=4, fsdp=2), _info("data"), strategy="s")
    with pytest.raises(ConfigError, match="data=2: strategy 's' uses no axis"):
        check_mesh(Mesh(data=2), _info(), strategy="s")


def test_every_strategy_declares_its_mesh_axes() -> None:
    """Today the only axis is ``data``; ``bare`` uses one device and therefore no axis."""
    for framework in lookup.frameworks():
        for strategy in lookup.strategies(framework):
            info = lookup.strategy_info(framework, strategy)
            assert info.mesh_axes == (() if info.max_devices == 1 else ("data",))
