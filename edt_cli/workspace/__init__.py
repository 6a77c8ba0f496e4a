"""The folder that everything lies in: artefacts, runs, jobs, and what they report while they are made."""
