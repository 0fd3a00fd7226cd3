"""The tables and figures of both papers as data, and the runs that fill them."""
