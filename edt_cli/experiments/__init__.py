"""Plans of many runs: a search over settings, on validation only."""
