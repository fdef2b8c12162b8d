"""Evaluation: what comes in, what is scored, what is reported."""

from lithophone.evaluation.run import evaluate
from lithophone.evaluation.summary import Evaluation, Score

__all__ = ["Evaluation", "Score", "evaluate"]
