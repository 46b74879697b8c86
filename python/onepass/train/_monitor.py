"""Decides whether lower or higher is better for a monitored number."""

from __future__ import annotations

import math
import re
from typing import Any

from onepass._suggest import suggestion

MODES = ("auto", "min", "max")

LOWER = """
    loss losses error errors err cost penalty mse rmse mae mape smape msle rmsle medae nll bce ce
    xent crossentropy kl kld divergence deviance perplexity ppl distance brier risk regret fpr fnr
    fdr wer cer ter fid eer ece mce hinge bpc bpd bpb
"""
HIGHER = """
    accuracy acc auc auroc roc auprc aucpr pr ap map f1 fbeta f2 precision recall sensitivity
    specificity tpr tnr ppv npv r2 r² d2 iou miou dice jaccard mcc corrcoef kappa bleu rouge meteor
    ndcg mrr hits psnr ssim likelihood elbo correlation pearson spearman pearsonr spearmanr
    silhouette score
"""
# A number with one of these words may be better either way.
UNSETTLED = """
    minus non not no inverse inv inverted anti drop gap delta diff difference change std var
    variance spread ratio worst false time seconds opposite reversed flipped reciprocal complement
"""
_MIN, _MAX, _UNSETTLED = (frozenset(words.split()) for words in (LOWER, HIGHER, UNSETTLED))
# Where the last word misleads: scikit-learn's names, and rates.
_PHRASES = {
    "brier_score": "min",
    "cross_entropy": "min",
    "davies_bouldin_score": "min",
    "energy_score": "min",
    "error_rate": "min",
    "explained_variance": "max",
    "false_discovery_rate": "min",
    "false_negative_rate": "min",
    "false_positive_rate": "min",
    "hit_rate": "max",
    "ignorance_score": "min",
    "interval_score": "min",
    "likelihood_ratio": "max",
    "miss_rate": "min",
    "negative_predictive_value": "max",
    "positive_predictive_value": "max",
    "true_negative_rate": "max",
    "true_positive_rate": "max",
    "winkler_score": "min",
}
# They say which average or part a number is, not which way it is better.
_NEUTRAL = re.compile(
    r"\d+|at|k|top(?:k|\d+)?|macro|micro|weighted|samples|binary|multiclass|multilabel|avg|average|"
    r"mean|total|class|ovr|ovo|epoch|rate|curve|coef|coefficient|percent|pct"
)


def name_of(owner: str, value: Any, argument: str = "monitor") -> str:
    """``value``, where it is text at all; TypeError elsewhere."""
    if not isinstance(value, str):
        raise TypeError(f"{owner}: {argument!r} is {value!r}, expected a name in the history")
    return value


def direction(owner: str, monitor: str, mode: str) -> str:
    """``"min"`` or ``"max"``: ``mode``, or for ``"auto"`` what the name settles.

    Raises:
        ValueError: the mode is ``"auto"`` and the name does not settle it.
    """
    if mode != "auto":
        return mode
    found = _of_formula(monitor.removeprefix("val_"))
    if found is None:
        prefix = "val_" if monitor.startswith("val_") else ""
        near = suggestion(monitor, [prefix + name for name in sorted(_MIN | _MAX)])
        raise ValueError(
            f"{owner}: 'mode' is 'auto', expected 'min' or 'max' for {monitor!r}: the name does "
            f"not say whether lower or higher values are better{near}"
        )
    return found


def better(mode: str, value: float, best: float, min_delta: float = 0.0) -> bool:
    """Whether ``value`` beats ``best`` by more than ``min_delta``; NaN never does."""
    gain = best - value if mode == "min" else value - best
    return not math.isnan(value) and (math.isnan(best) or gain > min_delta)


def _of_formula(name: str) -> str | None:
    """Of a name that may begin with a minus sign; other arithmetic in it settles nothing."""
    minus = re.match(r"[-\u2212]\s*(?=[^\W\d])", name)
    if minus is not None:
        return _turned(_of_formula(name[minus.end() :].removeprefix("val_")))
    if re.search(r"[~!^*/=<>|]", name) or re.match(r"[-+\u2212]", name):
        return None
    return _settled(_words(name))


def _turned(mode: str | None) -> str | None:
    return mode and {"min": "max", "max": "min"}[mode]


def _words(name: str) -> list[str]:
    """``"MacroF1@10"`` → ``["macro", "f1", "10"]``."""
    if name.lower() in _MIN | _MAX:  # mIoU
        return [name.lower()]
    name = name.replace("@", " at ")
    spaced = re.sub(r"(?<=[A-Za-z0-9])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", " ", name)
    return [word.lower() for word in re.split(r"[\W_]+", spaced) if word]


def _settled(words: list[str]) -> str | None:
    whole = "_".join(words)
    if whole.startswith("d2_"):  # scikit-learn's d2_absolute_error_score and its kin
        return "max"
    if whole not in _PHRASES and len(words) > 1 and words[0] in ("neg", "negative", "negated"):
        return _turned(_settled(words[1:]))
    for phrase, mode in _PHRASES.items():
        if whole == phrase or whole.startswith(f"{phrase}_") or whole.endswith(f"_{phrase}"):
            before = whole.partition(phrase)[0].split("_")
            return None if _UNSETTLED & set(before) else mode
    if words[:1] == ["1"] or _UNSETTLED & set(words):
        return None
    if "at" in words[1:]:  # fpr_at_tpr95, tpr@fpr: at which value of another one
        words = words[: words.index("at", 1)]
    kept = [word for word in words if not _NEUTRAL.fullmatch(word)]
    if not kept:
        return "max" if words and words[0].startswith("top") else None
    last = kept[-1]
    if last in _MAX and _MIN & set(kept[:-1]):  # loss_iou, error_score: which of the two?
        return None
    return "min" if last in _MIN else "max" if last in _MAX else None
