"""The terminal app: reads run folders and artefacts, decides nothing. Imported only when a view opens."""
