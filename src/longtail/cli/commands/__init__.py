"""One file per command: ``NAME``, ``SUMMARY``, ``add_arguments(parser)`` and ``run(arguments) -> exit code``.

A file here is a command; nothing else has to know it. Files import nothing heavy outside of ``run``.
"""
