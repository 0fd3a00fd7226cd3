"""How annotations are checked while the tests run."""

from beartype import BeartypeConf, beartype

#: An int is a float, as PEP 484 has it: users write ``alpha: 0``.
typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))
