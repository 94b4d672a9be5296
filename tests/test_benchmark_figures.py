"""How the benchmark's figures are made: ratios, limits, layers. No test checks a speed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.benchmark import limits
from pspnet_convert.commands.benchmark.layers import Layer, LayerTimes, Record, Turn, layers_of, operations_of
from pspnet_convert.commands.benchmark.limits import Products, fastest, load_products
from pspnet_convert.commands.benchmark.options import AUTO
from pspnet_convert.commands.benchmark.others import Usage, busy_seconds, share_of_others
from pspnet_convert.commands.benchmark.others import remark as others_remark
from pspnet_convert.commands.benchmark.ratios import (
    LARGEST_ERROR,
    LEAST_ROUNDS,
    MOST_ROUNDS,
    Ratio,
    Rounds,
    is_settled,
    ratio,
    remark,
)
from pspnet_convert.commands.benchmark.theory import in_theory
from pspnet_convert.processor import INSTRUCTION_SETS
from pspnet_convert.runtimes.timing import Subject

# Ratios


def test_a_ratio_is_taken_within_the_rounds() -> None:
    """The machine was three times as slow in the second half: the ratio of the medians would be 4."""
    busy = np.array([1, 1, 1, 3, 3, 3])
    found = ratio(2 * busy, busy)
    assert (found.median, found.quartiles, found.error) == (2, (2, 2), 0)


def test_the_error_of_a_ratio_is_mcgills_notch() -> None:
    found = ratio(np.array([1.0, 2, 3, 4, 5]), np.ones(5))
    assert found.quartiles == (2, 4)
    assert found.error == pytest.approx(1.57 * 2 / 5**0.5 / 3)


def of_error(error: float) -> Ratio:
    return Ratio(2, (1, 3), error)


def test_what_is_said_of_ratios() -> None:
    good, bad = of_error(LARGEST_ERROR), of_error(1.01 * LARGEST_ERROR)
    assert remark([("a", good)], 7) is None
    assert is_settled([good]) and not is_settled([good, bad])
    busy = remark([("a", good), ("b", bad), ("c", of_error(0.4))], 7)
    assert busy is not None and "2 of 3 ratios" in busy and "that of c by 40%" in busy and "--rounds auto" in busy
    enough = remark([("b", bad)], MOST_ROUNDS)
    assert enough is not None and "--rounds auto" not in enough
    asked = remark([("b", bad)], LEAST_ROUNDS, is_auto=True)
    assert asked is not None and "--rounds auto" not in asked


@pytest.mark.parametrize(("noise", "rounds"), [(0.0, LEAST_ROUNDS), (0.5, MOST_ROUNDS)])
def test_rounds_auto_goes_on_while_the_spread_is_wide(
    small: ModelCard, noise: float, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pspnet_convert.commands.benchmark import figures

    numbers = np.random.default_rng(0)
    chosen = [Subject("IR", "plain", "FP32", at, Path("a.xml")) for at in ("f32", "default")]
    chosen.append(Subject("IR", "folded", "FP32", "f32", Path("b.xml")))
    monkeypatch.setattr(figures, "run_round", lambda *_: list(np.exp(noise * numbers.standard_normal(4))))
    setting = figures.Setting(small, small.input.shape, Rounds.of(AUTO), {})
    assert len(figures._rounds(setting, chosen, [])) == rounds


# A machine that is busy


def test_the_time_that_processors_were_busy() -> None:
    """User, nice, system, idle, iowait, irq, softirq, steal, and two that are part of user and nice."""
    stat = "cpu  100 20 30 99999 88888 4 5 600 70 8\ncpu0 1 2 3 4 5 6 7 8 9 10\n"
    assert busy_seconds(stat, ticks=100) == pytest.approx((100 + 20 + 30 + 4 + 5 + 600) / 100)


def test_the_share_of_others() -> None:
    before, after = Usage(10.0, 1000.0, 50.0), Usage(20.0, 1015.0, 56.0)
    assert share_of_others(before, after, processors=2) == pytest.approx((15 - 6) / 20)
    assert share_of_others(before, Usage(20.0, 1005.0, 56.0), processors=2) == 0  # the system counts in ticks
    assert share_of_others(None, after, processors=2) is None


@pytest.mark.parametrize(("share", "is_said"), [(None, False), (0.04, False), (0.06, True)])
def test_others_are_said(share: float | None, is_said: bool) -> None:
    assert (others_remark(share) is not None) == is_said


# The limit


@pytest.fixture
def tiny_products(monkeypatch: pytest.MonkeyPatch) -> Products:
    monkeypatch.setattr(limits, "_SIZES", ((256, 256, 256), (1024, 256, 256)))
    monkeypatch.setattr(limits, "_SHORTEST", 1e-6)
    return load_products(["f32", "i8"], None)


def test_each_limit_is_of_a_kernel_of_its_precision(tiny_products: Products) -> None:
    tiny_products.run()
    found = fastest(tiny_products)
    assert set(found) == {"f32", "i8"}
    for precision, one in found.items():
        assert one.kernel.lower().endswith(f"_{precision}")
        assert one.gflops_per_second == max(
            product.best.gflops_per_second for product in tiny_products.all if product.best.precision == precision
        )


def test_a_product_that_another_kernel_ran_is_no_limit(tiny_products: Products) -> None:
    for product in tiny_products.all:
        product.best = replace(product.best, kernel="jit_gemm_f32", gflops_per_second=1.0)
    assert set(fastest(tiny_products)) == {"f32"}
    for product in tiny_products.all:  # MLAS does not keep to a cap
        product.best = replace(product.best, kernel="gemm_mlas_f32", processor="avx2")
    assert fastest(tiny_products) == {}


ZEN4 = """processor\t: {number}
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
cpu MHz\t\t: 2596.128
physical id\t: 0
core id\t\t: {core}
"""
ALL = tuple(one for one in INSTRUCTION_SETS if one not in ("amx", "avx2-vnni"))


def cpuinfo(cores: int, threads: int = 1) -> str:
    return "\n".join(ZEN4.format(number=number, core=number // threads) for number in range(cores * threads))


@pytest.mark.parametrize(
    ("precision", "cap", "expected"),
    [
        ("f32", None, 2 * 32 * 3.7),
        ("bf16", None, 2 * 64 * 3.7),
        ("i8", None, 2 * 128 * 3.7),
        ("f32", "avx2", 2 * 32 * 3.7),
        ("bf16", "avx512-vnni", None),
        ("i8", "avx512", None),
        ("f16", None, None),
    ],
)
def test_the_limit_in_theory(precision: str, cap: str | None, expected: float | None) -> None:
    found = in_theory(cpuinfo(2), ALL, None, 3.7, precision, cap)
    assert (found and found.gflops_per_second) == (expected and pytest.approx(expected))


def test_the_limit_in_theory_counts_cores_that_the_process_may_use() -> None:
    def words(text: str, usable: set[int] | None) -> str:
        found = in_theory(text, ALL, usable, 3.7, "f32", None)
        assert found is not None
        return found.words

    assert words(cpuinfo(4), {0, 1, 2}) == "3 cores of Zen 4, 32 operations in a cycle, 3.70 GHz"
    assert words(cpuinfo(4, threads=2), None).startswith("4 cores")
    assert words(cpuinfo(4, threads=2), {0, 1}).startswith("1 core ")


@pytest.mark.parametrize(
    ("text", "clock"),
    [(cpuinfo(2), None), (cpuinfo(2).replace("model\t\t: 17", "model\t\t: 1"), 3.7), ("", 3.7)],
    ids=["no clock", "an unknown core", "no cpuinfo"],
)
def test_what_is_not_known_is_not_guessed(text: str, clock: float | None) -> None:
    assert in_theory(text, ALL, None, clock, "f32", None) is None


# Layers


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "operations"),
    [
        ("Convolution", [(1, 8, 9, 9), (6, 8, 3, 3), (6,)], (1, 6, 5, 7), 2 * 6 * 5 * 7 * 8 * 9),
        ("Convolution", [(1, 8, 9, 9), (2, 3, 4, 3, 3)], (1, 6, 5, 7), 2 * 6 * 5 * 7 * 4 * 9),
        ("Deconvolution", [(1, 8, 5, 7), (8, 6, 2, 2)], (1, 6, 10, 14), 2 * 5 * 7 * 8 * 6 * 4),
        ("Deconvolution", [(1, 8, 5, 7), (2, 4, 3, 2, 2)], (1, 6, 10, 14), 2 * 5 * 7 * 8 * 3 * 4),
        ("MatMul", [(5, 4), (2, 3, 4, 7)], (2, 3, 5, 7), 2 * 2 * 3 * 5 * 7 * 4),
        ("MatMul", [(4, 5), (4, 7)], (5, 7), 2 * 5 * 7 * 4),
        ("FullyConnectedQuantizedLegacy", [(1, 5, 4), (7, 4)], (1, 5, 7), 2 * 5 * 7 * 4),
        ("Reorder", [(1, 8, 9, 9)], (1, 8, 9, 9), 0),
    ],
)
def test_the_operations_of_a_layer(
    kind: str, inputs: list[tuple[int, ...]], output: tuple[int, ...], operations: int
) -> None:
    assert operations_of(kind, inputs, output) == operations


def test_a_layers_time_is_that_of_the_faster_runs_without_the_first() -> None:
    """OpenVINO's profile has the mean of all runs so far."""
    runs = [50, 4, 9, 2]  # ms of one layer; the wall time has 1 ms more
    profiles = [
        {"conv": Record("Convolution", "brgconv_f32", float(np.mean(runs[: number + 1])))} for number in range(4)
    ]
    turns = [Turn(1.0, (run + 1) / 1000, one) for run, one in zip(runs, profiles)]
    profiles[-1]["short"] = Record("Reorder", "jit", 0.001)  # which the profile left out before
    layer, short = layers_of(turns, {"conv": ((1, 2), 6e9)})
    assert short.ms == pytest.approx(4 * 0.001 / 2)
    assert layer.ms == pytest.approx((4 + 2) / 2)
    assert layer.gflops_per_second == pytest.approx(6 / 3e-3)


@pytest.mark.parametrize(("layer_ms", "is_said"), [(9.6, False), (9.4, True), (10.6, True)])
def test_layers_that_do_not_sum_to_the_latency_are_said(layer_ms: float, is_said: bool) -> None:
    layers = [Layer("a", "Convolution", "brgconv_f32", (1,), layer_ms, 1.0, 1.0)]
    times = LayerTimes("folded", "FP32", "f32", "f32", 10.0, 10.0, layers)
    assert (times.remark is not None) == is_said
