"""Figures of the paper that the program goes by."""

COST_PER_USER = {"embedding": 0.00009, "generation": 0.000194, "summarization": 0.000477}
"""US dollars a user, section 4.9."""
INSERTIONS_A_USER = {
    frozenset({"cloth", "sport"}): 0.33,
    frozenset({"elec", "phone"}): 0.21,
    frozenset({"food", "kitchen"}): 0.34,
}
OTHERWISE = 0.33
