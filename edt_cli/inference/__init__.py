"""What finished runs are worth and say: results, recommendations, one user looked at."""
