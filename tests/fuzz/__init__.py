"""What a stranger's bytes can reach, fed with any bytes at all; scripts/fuzz runs it.

A target takes bytes, makes an input of them and fails on whatever its documentation does not allow:
another exception, a crash, memory changed that is not its own. tests/test_fuzz.py runs each on a
few inputs, and on those that once failed.
"""
