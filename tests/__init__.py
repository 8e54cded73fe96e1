"""Tests of fastmirror, with real parts: files, processes, sockets."""
