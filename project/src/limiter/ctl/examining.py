"""Prints what the doctor finds."""

import asyncio

import click
from loguru import logger

from limiter.config.loading import WrongSettings, load
from limiter.config.settings import Settings
from limiter.wiring import compose_doctor


def examine() -> int:
    """Check what the environment leads to, line by line; returns 0 if all is well. Raises ClickException."""
    logger.remove()  # each line says it in its own words
    try:
        settings = load()
    except WrongSettings as error:
        raise click.ClickException(f"wrong settings:\n{error}") from None
    for event, text in settings.warnings.items():
        click.echo(f"look at {event}: {text}")
    return asyncio.run(_examine(settings))


async def _examine(settings: Settings) -> int:
    bad = 0
    async with compose_doctor(settings) as doctor:
        async for result in doctor.results():
            click.echo(str(result))
            bad += not result.good
    click.echo(f"{bad} of them must be seen to" if bad else "all that a replica needs is there")
    return min(bad, 1)
