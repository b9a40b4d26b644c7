"""From recordings to arrays: corpora, the manifest, acoustic features and their store."""
