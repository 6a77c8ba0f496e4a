"""Tables and figures: the paper's as data, and those of runs in the paper's layout."""
