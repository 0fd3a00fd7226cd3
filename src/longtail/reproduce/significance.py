"""Is the difference of two methods over the same seeds more than chance?"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class PairedDifference(NamedTuple):
    """Difference of two methods over seeds that both ran with.

    Attributes:
        mean: Mean of the differences.
        pairs: Number of seeds.
        p: Two-sided probability of such a mean under no difference; None for fewer than two seeds.
    """

    mean: float
    pairs: int
    p: float | None


def paired_difference(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """Paired t-test of ``second - first``.

    Args:
        first: One score per seed.
        second: Scores of the same seeds, in the same order.

    Source: Student (1908); pairing by seed removes the seed's effect on both (initial weights, order of images).
    """
    differences = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    pairs = len(differences)
    mean = float(differences.mean()) if pairs else math.nan
    if pairs < 2:
        return PairedDifference(mean, pairs, None)
    deviation = float(differences.std(ddof=1))
    if deviation == 0:
        return PairedDifference(mean, pairs, 1.0 if mean == 0 else 0.0)
    return PairedDifference(mean, pairs, t_tail(abs(mean) / (deviation / math.sqrt(pairs)), pairs - 1))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Probabilities of several tests, corrected so that the chance of any false finding among them stays at the level.

    The k-th smallest of m is multiplied by m - k + 1, and none is smaller than one before it.

    Args:
        p_values: One a test; None where there is none.

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[place] = largest
    return adjusted


def t_tail(t: float, freedom: int) -> float:
    """``P(|T| > t)`` of Student's distribution with ``freedom`` degrees.

    With θ = atan(t / √ν) the distribution of a whole number ν of degrees is a finite sum of cosines.

    Args:
        t: Statistic >= 0.
        freedom: ν >= 1.

    Source: Abramowitz & Stegun 26.7.3 (odd ν) and 26.7.4 (even ν).
    """
    theta = math.atan(t / math.sqrt(freedom))
    cosine, sine = math.cos(theta), math.sin(theta)
    if freedom % 2:
        term, total = cosine, cosine if freedom > 1 else 0.0
        for k in range(3, freedom - 1, 2):
            term *= (k - 1) / k * cosine**2
            total += term
        inside = 2 / math.pi * (theta + sine * total)
    else:
        term = total = 1.0
        for k in range(2, freedom - 1, 2):
            term *= (k - 1) / k * cosine**2
            total += term
        inside = sine * total
    return min(1.0, max(0.0, 1.0 - inside))
