"""Leave-one-out (or one point in time), every candidate ranked, ties counted half: the figures one can believe."""
