"""Tweaks of NumPy."""

from isoscale.common.tuning.tweaks import Tweak

TWEAKS = (
    Tweak(
        name="bias-in-place",
        what="a dense layer adds its bias to the product in place",
        why="one array less is allocated and written for each layer",
        where="everywhere",
        needs="nothing",
        source="https://numpy.org/doc/stable/reference/generated/numpy.add.html",
        applies=lambda config: True,
        pays=lambda config: True,
    ),
)
