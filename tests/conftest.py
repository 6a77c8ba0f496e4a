"""Its folder is on the path, so that tests of several folders can share helpers."""
