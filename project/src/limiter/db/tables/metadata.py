"""What all tables share. They carry no schema name: the engine maps it in, migrations set it as their search path."""

from sqlalchemy import Column, DateTime, MetaData

NAMES = {"pk": "pk_%(table_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s", "fk": "fk_%(table_name)s"}
metadata = MetaData(naming_convention=NAMES)


def time(name: str, nullable: bool = False) -> Column[object]:
    """A column of moments, with their zone."""
    return Column(name, DateTime(timezone=True), nullable=nullable)
