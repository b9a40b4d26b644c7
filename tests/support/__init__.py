"""What tests share. Each module is imported as `tests.support.<name>`."""
