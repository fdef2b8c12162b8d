"""Evaluation: manifests and hypotheses, scores, report."""

from lithophone.evaluation.run import evaluate
from lithophone.evaluation.summary import Evaluation, Score

__all__ = ["Evaluation", "Score", "evaluate"]
