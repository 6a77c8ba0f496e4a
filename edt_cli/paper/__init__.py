"""What the paper says, as data: its ablations and the figures that others are held beside."""
