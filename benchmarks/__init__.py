"""Benchmarks: fastmirror beside its peers, over one seeded upstream on loopback. See scripts/bench."""
