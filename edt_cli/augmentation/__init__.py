"""The transferable item augmenter (section 3.2): representatives, generate, filter, insert."""
