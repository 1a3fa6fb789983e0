import numpy as np
import pandas as pd
import pytest

from mmpref.errors import InputError
from mmpref.scoring.metric import Metric, bootstrap, estimate, printed, ratio

SHARE = {
    "share": Metric(lambda sums: ratio(sums["hits"], sums["items"]), "higher", "share of hits")
}


def table(hits: np.ndarray, image: np.ndarray | None = None) -> pd.DataFrame:
    ids = [str(number) for number in range(len(hits))]
    images = ids if image is None else [str(number) for number in image]
    return pd.DataFrame({"id": ids, "image": images, "hits": hits.astype("int64"), "items": 1})


def share(*tables: pd.DataFrame, seed: int = 0, run: str = "run", replicates: int = 2000):
    return bootstrap(tables, SHARE, seed, run, replicates)["share"]


def test_the_interval_is_that_of_the_binomial():
    hits = np.arange(400) < 100
    found = estimate(share(table(hits)))
    half = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    assert found.value == 0.25
    assert found.low == pytest.approx(0.25 - half, abs=0.006)
    assert found.high == pytest.approx(0.25 + half, abs=0.006)


def test_95_of_100_intervals_hold_the_truth():
    draw = np.random.default_rng(0)
    covered = 0
    for trial in range(400):
        found = estimate(share(table(draw.random(200) < 0.3), seed=trial, replicates=400))
        covered += found.low <= 0.3 <= found.high
    assert covered / 400 == pytest.approx(0.94, abs=0.025)


def test_questions_about_one_image_are_resampled_together():
    image = np.repeat(np.arange(100), 4)
    hits = np.repeat(np.arange(100) < 50, 4)
    together = estimate(share(table(hits, image)))
    apart = estimate(share(table(hits)))
    # 400 answers, but 100 independent ones: twice as wide.
    assert (together.high - together.low) / (apart.high - apart.low) == pytest.approx(2, rel=0.1)


def test_a_ratio_of_sums_is_resampled_as_such():
    counts = pd.DataFrame({"id": ["a", "b"], "image": ["a", "b"], "hits": [1, 0], "items": [1, 3]})
    replicates = bootstrap([counts], SHARE, 0, "run", 4000)["share"]
    assert replicates[0] == 1 / 4
    frequencies = {value: np.mean(replicates[1:] == value) for value in (1, 1 / 4, 0)}
    assert frequencies == pytest.approx({1: 0.25, 1 / 4: 0.5, 0: 0.25}, abs=0.03)


def test_seeds_add_their_variance_and_no_less():
    # All items alike within a seed: only the seeds vary, and var(mean) should be s^2 / seeds.
    shares = np.array([0, 1, 1, 0, 1, 0], bool)
    tables = [table(np.full(50, hit)) for hit in shares]
    replicates = share(*tables, replicates=20000)
    assert replicates[0] == 0.5
    assert replicates[1:].var() == pytest.approx(shares.var(ddof=1) / 6, rel=0.05)


def test_items_are_shared_by_the_seeds():
    hits = np.arange(100) < 30
    one, three = share(table(hits)), share(table(hits), table(hits), table(hits))
    np.testing.assert_allclose(one, three)


def test_a_paired_difference_of_equal_runs_is_zero_and_of_shifted_ones_narrow():
    draw = np.random.default_rng(1)
    before = draw.random(300) < 0.5
    after = before.copy()
    after[:15] = True
    base = share(table(before), run="base")
    assert np.all(share(table(before), run="other") == base)
    found = estimate(share(table(after), run="other") - base)
    gained = (after.astype(int) - before).mean()
    half = 1.96 * (after.astype(int) - before).std() / np.sqrt(300)
    assert found.value == pytest.approx(gained)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.15)


def test_draws_depend_on_the_seed_alone():
    hits = np.arange(40) < 9
    np.testing.assert_array_equal(share(table(hits)), share(table(hits)))
    assert not np.array_equal(share(table(hits)), share(table(hits), seed=1))


def test_undefined_replicates_are_left_out_and_an_undefined_value_stays_so():
    nothing = pd.DataFrame({"id": ["a", "b"], "image": ["a", "b"], "hits": [1, 0], "items": [1, 0]})
    found = estimate(bootstrap([nothing], SHARE, 0, "run")["share"])
    assert (found.value, found.low, found.high) == (1, 1, 1)
    empty = nothing.assign(hits=0, items=0)
    assert np.isnan(estimate(bootstrap([empty], SHARE, 0, "run")["share"])).all()


def test_seeds_scored_on_different_items_are_refused():
    with pytest.raises(InputError, match=r"mdpo: scores are about different items \(5 and 4"):
        share(table(np.ones(5)), table(np.ones(4)), run="mdpo")


def test_numbers_are_printed_as_python_prints_them():
    # NumPy rounds 0.15 to 0.2, 0.025 to 0.02 and 0.075 to 0.08.
    numbers = np.array([[0.15, 0.25], [62.650000000000006, np.nan]])
    np.testing.assert_equal(printed(numbers, 1), [[0.1, 0.2], [62.7, np.nan]])
    np.testing.assert_equal(printed(np.array([0.025, 0.075]), 2), [0.03, 0.07])
