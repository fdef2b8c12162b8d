"""Manifests and hypotheses -> scores and report."""

from lithophone.evaluation.run import evaluate
from lithophone.evaluation.summary import Evaluation, Score

__all__ = ["Evaluation", "Score", "evaluate"]
