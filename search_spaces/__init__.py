"""What a search looks over: one YAML file a model."""
