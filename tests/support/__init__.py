"""Helpers that several test files share. Import each module as `tests.support.<name>`."""
