"""Fakes of what stands outside: the upstream index."""
