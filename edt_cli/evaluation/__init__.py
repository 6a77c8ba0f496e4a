"""Evaluation of next-item recommendation: queries, candidates, ranks, metrics and significance.

The targets are held out by leave-one-out or by time, all candidates are ranked, and ties count half.
"""
