"""From raw logs to one chronological sequence a user, each item in one domain, with a split."""
