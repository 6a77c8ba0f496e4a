"""The workspace folder: artefacts, runs and jobs, and the events that they report."""
