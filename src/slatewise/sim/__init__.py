"""Environments, one a file: each has a frozen ``Config`` and ``Env(config, *, num_users)`` (see protocols.Env)."""
