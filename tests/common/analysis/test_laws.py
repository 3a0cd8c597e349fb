"""Laws of scaling on synthetic curves: recovered, rejected, bounded."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from isoscale.common.analysis import laws
from isoscale.common.analysis.estimates import Ratio
from isoscale.common.analysis.laws import (
    AMDAHL,
    EXTRAPOLATION,
    GUSTAFSON,
    LAWS,
    LEAST_RESAMPLED,
    USL,
    Array,
    Fit,
    Law,
    Samples,
    best_of,
    fit,
    karp_flatt,
    usl_peaks,
)
from isoscale.common.analysis.scaling import Scaling

COUNTS = (1, 2, 4, 8)
EQUAL, RISING, QUIET = (0.02,) * 4, (0.01, 0.02, 0.03, 0.04), (0.04, 0.01, 0.01, 0.01)
CURVES = [(AMDAHL, (0.1,)), (GUSTAFSON, (0.2,)), (USL, (0.05, 0.01))]


def sampled(
    curve: Sequence[float],
    random: np.random.Generator,
    *,
    units: int = 4,
    noise: Sequence[float] = EQUAL,
    paired: bool = True,
    devices: tuple[int, ...] = COUNTS,
) -> Samples:
    """Returns log throughputs about a curve of log speedups.

    Paired ones also have a level of each group, and are relative to the first count.
    """
    values = np.array(curve) + random.normal(size=(units, len(devices))) * np.array(noise)
    if paired:
        values = values + 0.05 * random.normal(size=(units, 1))
        values = values - values[:, :1]
    return Samples(devices=devices, values=tuple(values.T), paired=paired)


def log_speedup(law: Law, parameters: Sequence[float], devices: Sequence[int] = COUNTS) -> Array:
    return law.log_speedup(np.array(devices, float), np.array(parameters))


def simulate(
    law: Law, truth: Sequence[float], *, studies: int, seed: int = 0, **how: object
) -> tuple[list[float], float]:
    """Returns how often each interval holds its true parameter, and how often the law fits."""
    random = np.random.default_rng(seed)
    curve = log_speedup(law, truth)
    found = [fit(law, sampled(curve, random, **how)) for _ in range(studies)]  # type: ignore[arg-type]
    held = [
        float(np.mean([figure_holds(one, name, value) for one in found]))
        for name, value in zip(law.parameters, truth, strict=True)
    ]
    return held, float(np.mean([one.fits for one in found]))


def figure_holds(found: Fit, name: str, value: float) -> bool:
    figure = found.parameters[name]
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low <= figure.value <= figure.high
    return figure.low <= value <= figure.high


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("noise", [EQUAL, RISING, QUIET])
@pytest.mark.parametrize("law, truth", CURVES)
def test_a_curve_of_a_law_is_recovered_at_the_stated_rates(
    law: Law, truth: Sequence[float], noise: Sequence[float], paired: bool
) -> None:
    """At least the stated 91 % each, less three standard errors of 100 studies."""
    held, fits = simulate(law, truth, studies=100, noise=noise, paired=paired)
    assert all(rate >= 0.83 for rate in held), held
    assert fits >= 0.83


@pytest.mark.parametrize("law, truth", CURVES)
def test_intervals_by_resampling_hold_the_truth(
    law: Law, truth: Sequence[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(laws, "RESAMPLES", 100)
    held, fits = simulate(law, truth, studies=20, units=LEAST_RESAMPLED)
    assert all(rate >= 0.8 for rate in held), held
    assert fits >= 0.8
    one = sampled(log_speedup(law, truth), np.random.default_rng(0), units=LEAST_RESAMPLED)
    assert fit(law, one).method == "resampling"
    fewer = Samples(devices=COUNTS, values=tuple(v[:-1] for v in one.values), paired=True)
    assert fit(law, fewer).method == "covariance"


@pytest.mark.parametrize("law, truth", CURVES)
def test_a_curve_without_noise_gives_its_parameters(law: Law, truth: Sequence[float]) -> None:
    curve = log_speedup(law, truth) + 7.0
    found = fit(law, sampled(curve, np.random.default_rng(0), noise=(1e-9,) * 4, paired=False))
    assert [p.value for p in found.parameters.values()] == pytest.approx(truth, rel=1e-3)
    assert found.level == pytest.approx(0.0, abs=1e-5)
    assert found.deviation < 1e-5
    assert found.speedup(16).value == pytest.approx(
        math.exp(log_speedup(law, truth, (16,))[0]), rel=1e-3
    )


def fitted(scaling: Scaling, curve: Sequence[float], **how: object) -> list[Fit]:
    samples = sampled(np.log(curve), np.random.default_rng(0), **how)  # type: ignore[arg-type]
    return [fit(law, samples) for law in LAWS[scaling]]


def test_the_law_with_fewer_parameters_is_taken_if_it_fits() -> None:
    amdahl = fitted("strong", np.exp(log_speedup(AMDAHL, (0.1,))).tolist())
    assert all(one.fits for one in amdahl)  # Amdahl's law is USL without coherence
    assert best_of(amdahl) is amdahl[0]
    usl = fitted("strong", np.exp(log_speedup(USL, (0.05, 0.05))).tolist())
    assert not usl[0].fits
    assert best_of(usl) is usl[1]


@pytest.mark.parametrize("scaling", ["strong", "weak"])
def test_a_curve_of_no_law_fits_none(scaling: Scaling) -> None:
    for curve in ([1.0, 1.9, 1.2, 6.0], [1.0, 2.6, 6.5, 15.0]):  # a dip; above the ideal
        found = fitted(scaling, curve)
        assert best_of(found) is None
        assert all(one.p < 0.001 for one in found)
        assert all(one.deviation > 0.1 for one in found)


@pytest.mark.parametrize("scaling", ["strong", "weak"])
def test_usl_describes_a_speedup_that_falls_below_one(scaling: Scaling) -> None:
    curve = np.exp(log_speedup(USL, (1.1, 0.2))).tolist()
    assert curve[1] < 0.85
    assert curve == sorted(curve, reverse=True)
    other, usl = fitted(scaling, curve)
    assert not other.fits
    assert best_of([other, usl]) is usl
    assert usl.peak is not None
    assert usl.peak.value == 1.0  # more than one device is never faster
    assert figure_holds(usl, "contention", 1.1)
    assert figure_holds(usl, "coherence", 0.2)
    for law in LAWS[scaling]:  # a curve that nearly vanishes
        found = fit(law, sampled([0, -9, -12, -20], np.random.default_rng(0)))
        assert all(math.isfinite(p.value) for p in found.parameters.values())


def test_the_peak_of_usl() -> None:
    peaks = usl_peaks(np.array([0.04, 0.5, 1.0, 1.5, 0.0]), np.array([0.01, 0.0, 0.01, 0.0, 5.0]))
    assert peaks.tolist() == pytest.approx([math.sqrt(96), math.inf, 1.0, 1.0, 1.0])
    found = fitted("strong", np.exp(log_speedup(USL, (0.05, 0.05))).tolist())[1]
    assert found.peak is not None
    assert found.peak.low is not None
    assert found.peak.high is not None
    assert found.peak.low < math.sqrt(0.95 / 0.05) < found.peak.high
    curve = np.exp(log_speedup(USL, (0.05, 0.05)))
    assert curve[2] > max(curve[1], curve[3])  # 4 devices are nearest to 4.4


def test_ideal_scaling_is_at_the_bound_of_every_law() -> None:
    """A parameter at its bound was not free; without that, true laws were rejected too often."""
    random = np.random.default_rng(0)
    for law in (AMDAHL, GUSTAFSON, USL):
        found = [fit(law, sampled(np.log(COUNTS), random)) for _ in range(100)]
        assert np.mean([one.fits for one in found]) >= 0.85
        assert all(p.value >= 0 for one in found for p in one.parameters.values())
        held = [all(figure_holds(one, name, 0.0) for name in law.parameters) for one in found]
        assert np.mean(held) >= 0.9


def test_a_law_needs_four_device_counts_and_three_units() -> None:
    random = np.random.default_rng(0)
    three = sampled(np.log([1, 2, 4]), random, noise=EQUAL[:3], devices=(1, 2, 4))
    with pytest.raises(ValueError, match="needs 4 device counts and 3 groups"):
        fit(AMDAHL, three)
    with pytest.raises(ValueError, match="not 4 and 2"):
        fit(AMDAHL, sampled(np.log(COUNTS), random, units=2))


def test_a_law_says_nothing_beyond_twice_the_measured_range() -> None:
    (found, *_) = fitted("strong", np.exp(log_speedup(AMDAHL, (0.1,))).tolist())
    edge = found.speedup(EXTRAPOLATION * 8)
    assert edge.low is not None
    assert edge.high is not None
    assert edge.low < 1 / (0.1 + 0.9 / 16) < edge.high
    for devices in (16.1, 0.9):
        with pytest.raises(ValueError, match="measured up to 8 devices says nothing on"):
            found.speedup(devices)


def test_the_noise_at_one_device_is_not_taken_as_exact() -> None:
    """A noisy base that is 3 % too slow moves the level, and hardly the fraction."""
    curve = log_speedup(AMDAHL, (0.1,)) + np.log([0.97, 1, 1, 1])
    noisy = sampled(curve, np.random.default_rng(0), units=6, noise=(0.06, 0.01, 0.01, 0.01))
    exact = [values - values.mean() + end for values, end in zip(noisy.values, curve, strict=True)]
    found = fit(AMDAHL, Samples(devices=COUNTS, values=tuple(exact), paired=True))
    serial = karp_flatt(
        Ratio(value=math.exp(curve[1] - curve[0]), low=None, high=None, n=(6, 6)), 2
    )
    assert figure_holds(found, "serial fraction", 0.1)
    assert abs(found.parameters["serial fraction"].value - 0.1) < 0.2 * abs(serial.value - 0.1)
    assert found.level > 0.015


def test_karp_flatt_by_hand() -> None:
    found = karp_flatt(Ratio(value=3.2, low=2.5, high=4.0, n=(3, 3)), 4)
    # (1/3.2 - 1/4) / (3/4) = 0.0625 / 0.75
    assert found.value == pytest.approx(1 / 12)
    assert found.low == pytest.approx(0.0)  # from the high end of the speedup, which is ideal
    assert found.high == pytest.approx(0.2)  # (0.4 - 0.25) / 0.75
    assert karp_flatt(Ratio(value=5.0, low=None, high=None, n=(1, 1)), 4).value < 0
    assert karp_flatt(Ratio(value=0.5, low=None, high=None, n=(1, 1)), 2).value == 3.0
    with pytest.raises(ValueError, match="2 devices or more, not 1"):
        karp_flatt(Ratio(value=1.0, low=None, high=None, n=(3, 3)), 1)


@pytest.mark.parametrize("devices", COUNTS[1:])
def test_karp_flatt_of_a_curve_of_amdahl_is_its_serial_fraction(devices: int) -> None:
    value = math.exp(log_speedup(AMDAHL, (0.1,), (devices,))[0])
    found = karp_flatt(Ratio(value=value, low=0.9 * value, high=1.1 * value, n=(3, 3)), devices)
    assert found.value == pytest.approx(0.1)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
