"""The sections of a configuration, and how a configuration is read and checked."""
