"""Domain-aware profiling (section 3.4): cluster, summarize, reform, analyze, embed."""
