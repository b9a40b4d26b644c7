"""Everything that a sweep keeps on its storage, and the only code that reads or writes it."""
