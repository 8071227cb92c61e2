"""TOML config: schema, loading, problems."""
