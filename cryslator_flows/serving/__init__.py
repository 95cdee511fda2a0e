"""A live page: the campaigns of a folder or of a jobflow-remote project, in a browser, read-only."""
