"""Terminal app. It only reads run folders and artefacts, and is imported only when a view opens."""
