"""Words about items as numbers; nothing here runs while a request waits."""
