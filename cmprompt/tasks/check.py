"""Which pairs do not belong together, and which labels are wrong.

Pairs: every text of the table is tried on every image. What shuffled pairs score says how likely a score as good as
the pair's own is by chance, its p-value. Mismatched pairs have uniform p-values, matched ones small ones; so the share
of mismatched pairs can be read off the large p-values (Storey 2002, "A direct approach to false discovery rates"). How
many pairs of a flagged set are in truth fine, its false discovery rate, follows from how the scores of matched pairs
spread, which the better half of the table shows.

Labels: confident learning (Northcutt, Jiang and Chuang 2021), on cross-validated probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cmprompt.errors import UsageError
from cmprompt.heads.training import split_folds
from cmprompt.store.halves import DOUBT
from cmprompt.types import Array

BLOCK_CELLS = 1 << 22  # cosines held at once, 16 MB
SHUFFLES = 64  # other texts that each image is paired with for the null
FEWEST_TEXTS = 20  # below, shuffled pairs say too little to flag anything by
MOST_MISMATCHED = 0.4  # above, it is the model that cannot tell: good pairs too score like shuffled ones
BINS = 20  # of the histogram of p-values
C = 32.0  # of the logistic regression on unit vectors
FOLDS = 5
FEWEST_OF_CLASS = 2


@dataclass(frozen=True)
class PairCheck:
    """N pairs. `rank` 1: no other text fits the image better, rounding aside.

    `best`: the other text that fits best, and its cosine.
    """

    cosine: Array  # (N,)
    rank: Array  # (N,) int64
    p_value: Array  # (N,) how likely a shuffled pair is to score as well; near 1 is suspicious
    best: Array  # (N,) int64, a row of the texts; -1 where there is no other
    best_cosine: Array  # (N,)
    flagged: Array  # (N,) bool
    mismatched_share: float | None  # of all pairs; None with too few texts to tell
    fdr: float | None  # the share of the flagged that are fine, as estimated; None where nothing is flagged


@dataclass(frozen=True)
class LabelCheck:
    """N labelled rows. Rows of classes with a single picture are not judged: their confidence is NaN."""

    confidence: Array  # (N,) the cross-validated probability of the given label
    suggested: Array  # (N,) int64, the most probable class
    suggested_probability: Array  # (N,)
    flagged: Array  # (N,) bool, confidently another class
    folds: int


def check_pairs(
    images: Array, texts: Array, image_of: Sequence[int], text_of: Sequence[int], *, fdr: float = 0.1, seed: int = 0
) -> PairCheck:
    """Score N pairs (`images[image_of[i]]`, `texts[text_of[i]]`) of unit rows (I, D) and (M, D), none of them repeated.

    Texts paired with the same image do not count as others. `fdr`: the share of the flagged that may in truth be fine.
    """
    own_image, own_text = np.asarray(image_of), np.asarray(text_of)
    similarity = _Similarity(images, texts, own_image, own_text)
    cosine = similarity.cosines(own_image, own_text)
    rank, best, best_cosine = _against_others(similarity, cosine)
    score = similarity.standardised(own_image, own_text)
    null = np.sort(_shuffled(similarity, seed))
    p_value = (1 + len(null) - np.searchsorted(null, score, "left")) / (1 + len(null))
    share, estimated, flagged = None, None, np.zeros(len(cosine), bool)
    if len(texts) >= FEWEST_TEXTS:
        share = mismatched_share(p_value)
        if share <= MOST_MISMATCHED:
            flagged, estimated = flag_mismatched(score, share, fdr)
    return PairCheck(cosine, rank, p_value, best, best_cosine, flagged, share, estimated)


def mismatched_share(p_values: Array) -> float:
    """The share of pairs whose p-values (N,) are uniform: Storey's estimate #{p > x} / N(1 - x).

    x is where the histogram's fall ends: the first bin that holds no more than those to its right do on average
    (Nettleton, Hwang, Caldo and Wise 2006, "Estimating the number of true null hypotheses from a histogram of p
    values").
    """
    counts = np.histogram(p_values, BINS, (0.0, 1.0))[0]
    means = counts[::-1].cumsum()[::-1] / np.arange(BINS, 0, -1)  # (B,) of each bin and all to its right
    level = means[int(np.argmax(counts <= means))]
    return float(level * BINS / len(p_values))


def flag_mismatched(score: Array, share: float, fdr: float) -> tuple[Array, float | None]:
    """Flag the lowest scores whose estimated false discovery rate is at most `fdr` -> (N,) bool, and that rate.

    The m = (1 - share) N matched pairs are taken for normal, as the unaffected cases are in Efron (2004), "Large-scale
    simultaneous hypothesis testing", section 4. Their middle and deviation are read where hardly a mismatched pair is,
    among the best: the m/2-th score is the middle, the 0.1587 m-th one deviation above it.
    """
    from scipy.special import ndtr

    order = np.argsort(score, kind="stable")
    cut = score[order]  # rising
    matched = (1 - share) * len(cut)
    middle, above = (float(cut[::-1][int(part * matched)]) for part in (0.5, ndtr(-1.0)))
    flagged_so_far = np.searchsorted(cut, cut, "right")  # (N,) pairs that score as low
    fine = matched * ndtr((cut - middle) / max(above - middle, 1e-12))
    rate = np.minimum(1.0, fine / flagged_so_far)
    allowed = np.flatnonzero(rate <= fdr)
    flagged = np.zeros(len(cut), bool)
    if not len(allowed):
        return flagged, None
    flagged[order[: flagged_so_far[allowed[-1]]]] = True
    return flagged, float(rate[allowed[-1]])


@dataclass(frozen=True)
class _Similarity:
    """Cosines of I images with M texts, block by block, and how each image and text is placed among all."""

    images: Array
    texts: Array
    own_image: Array  # (N,) the image of each pair
    own_text: Array  # (N,)

    def blocks(self) -> Iterator[tuple[Array, Array]]:
        """(some pairs (p,), their images' cosines with every text (p, M), -inf where they are a pair)."""
        by_image = np.argsort(self.own_image, kind="stable")
        size = max(1, BLOCK_CELLS // len(self.texts))
        for start in range(0, len(self.images), size):
            ends = np.searchsorted(self.own_image[by_image], [start, start + size])
            pairs = by_image[ends[0] : ends[1]]
            cosines = self.images[start : start + size] @ self.texts.T  # (b, M)
            place = self.own_image[pairs] - start
            cosines[place, self.own_text[pairs]] = -np.inf
            for row in range(0, len(pairs), size):  # one image may stand in every pair
                some = slice(row, row + size)
                yield pairs[some], cosines[place[some]]

    def cosines(self, image: Array, text: Array) -> Array:
        """(n,) cosines of some images with some texts, a block at a time."""
        found = np.empty(len(image), np.float32)
        size = max(1, BLOCK_CELLS // self.texts.shape[1])
        for some in (slice(start, start + size) for start in range(0, len(image), size)):
            found[some] = np.einsum("nd,nd->n", self.images[image[some]], self.texts[text[some]])
        return found

    def standardised(self, image: Array, text: Array) -> Array:
        """(n,) cosines of some images and texts, each less its image's and its text's mean, in their deviations.

        Some images are close to every text and some texts to every image; that says nothing about a pair.
        """
        cosines = self.cosines(image, text)
        by_image, by_text = self._by_image, self._by_text
        scores: Array = (cosines - by_image[0][image]) / by_image[1][image]
        scores += (cosines - by_text[0][text]) / by_text[1][text]
        return scores

    @cached_property
    def _by_image(self) -> tuple[Array, Array]:
        return _moments(self.images, self.texts)

    @cached_property
    def _by_text(self) -> tuple[Array, Array]:
        return _moments(self.texts, self.images)


def _moments(rows: Array, others: Array) -> tuple[Array, Array]:
    """Mean and deviation of each row's products with all `others`, from their mean and covariance: (N,) and (N,)."""
    centre = others.mean(0)
    centred = (others - centre).astype(np.float64)
    covariance = centred.T @ centred / len(others)  # (D, D)
    spread = np.einsum("nd,nd->n", rows @ covariance, rows)
    return rows @ centre, np.sqrt(np.maximum(spread, 1e-12))


def _against_others(similarity: _Similarity, cosine: Array) -> tuple[Array, Array, Array]:
    """For each of N pairs its rank among the texts, the best other text (-1: there is none) and that one's cosine."""
    rank, best, best_cosine = np.ones(len(cosine), np.int64), np.full(len(cosine), -1), np.full(len(cosine), np.nan)
    for pairs, cosines in similarity.blocks():
        rank[pairs] += (cosines > cosine[pairs, None] + DOUBT).sum(1)
        best[pairs], best_cosine[pairs] = cosines.argmax(1), cosines.max(1)
    alone = np.isneginf(best_cosine)
    best[alone], best_cosine[alone] = -1, np.nan
    return rank, best, best_cosine


def _shuffled(similarity: _Similarity, seed: int) -> Array:
    """Scores of images with texts that are not theirs."""
    dice = np.random.default_rng(seed)
    n_images, n_texts = len(similarity.images), len(similarity.texts)
    image = np.repeat(np.arange(n_images), SHUFFLES)
    text = dice.integers(0, n_texts, len(image))
    pairs = np.unique(similarity.own_image * n_texts + similarity.own_text)
    other = ~np.isin(image * n_texts + text, pairs)
    return similarity.standardised(image[other], text[other])


def check_labels(
    vectors: Array, target: Array, n_classes: int, *, groups: Array | None = None, seed: int = 0
) -> LabelCheck:
    """Judge the labels `target` (N,) of unit rows (N, D) by probabilities that each row's own label had no part in.

    Rows of one picture have the same number in `groups` (N,) and are judged together; the picture counts for the class
    of its first row. Raises UsageError where fewer than two classes have two pictures.
    """
    pictures = np.arange(len(target)) if groups is None else groups
    counts = np.bincount(target[np.unique(pictures, return_index=True)[1]], minlength=n_classes)
    judged = counts[target] >= FEWEST_OF_CLASS
    if (counts >= FEWEST_OF_CLASS).sum() < 2:
        raise UsageError("to check labels at least two of them must stand on two pictures or more")
    folds = int(min(FOLDS, counts.max()))
    classes, local = np.unique(target[judged], return_inverse=True)
    probability = _cross_validated(vectors[judged], local, split_folds(local, pictures[judged], folds, seed))  # (n, c)
    found = LabelCheck(
        confidence=np.full(len(target), np.nan),
        suggested=target.copy(),
        suggested_probability=np.full(len(target), np.nan),
        flagged=np.zeros(len(target), bool),
        folds=folds,
    )
    found.confidence[judged] = probability[np.arange(len(local)), local]
    found.suggested[judged] = classes[probability.argmax(1)]
    found.suggested_probability[judged] = probability.max(1)
    found.flagged[judged] = confidently_other(probability, local)
    return found


def confidently_other(probability: Array, target: Array) -> Array:
    """(N,) bool: rows that confident learning counts as another class (Northcutt et al. 2021, equation 1).

    `probability` (N, C). A row is confidently of class k when its probability reaches the mean that rows labelled k
    have; where it reaches several, the most probable one counts.
    """
    given = np.eye(probability.shape[1], dtype=bool)[target]  # (N, C)
    threshold = np.array([column[mask].mean() for column, mask in zip(probability.T, given.T, strict=True)])
    confident = np.where(probability >= threshold - 1e-6, probability, -1.0)
    other = (confident.argmax(1) != target) & (probability.argmax(1) != target)
    flagged: Array = other & (confident.max(1) > 0)
    return flagged


def _cross_validated(vectors: Array, target: Array, folds: Sequence[tuple[Array, Array]]) -> Array:
    """(N, C) probabilities of scikit-learn's logistic regression for the rows it was not fitted on."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    head = LogisticRegression(C=C, max_iter=1000)
    found: Array = np.asarray(cross_val_predict(head, vectors, target, cv=folds, method="predict_proba"))
    return found
