"""Use of finished runs: labels, evaluation results, recommendations and the inspection of a user."""
