"""Figures of the paper that the program uses."""

COST_PER_USER = {"embedding": 0.00009, "generation": 0.000194, "summarization": 0.000477}
"""US dollars per user (section 4.9)."""
INSERTIONS_PER_USER = {
    frozenset({"cloth", "sport"}): 0.33,
    frozenset({"elec", "phone"}): 0.21,
    frozenset({"food", "kitchen"}): 0.34,
}
"""Mean number of inserted items per user, by the names of the domains."""
OTHER_INSERTIONS_PER_USER = 0.33
"""Inserted items per user of other datasets."""
