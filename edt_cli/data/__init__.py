"""Preparation of datasets: one chronological sequence per user, each item in one domain, and a split."""
