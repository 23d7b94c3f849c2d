"""Ends by hand what is under way for a model: a command to the dispatcher, an idle spell."""

from datetime import datetime

from loguru import logger
from sqlalchemy.ext.asyncio import AsyncEngine

from limiter.api.answers import Answer
from limiter.api.explaining import moment
from limiter.api.messages import SettleRequest, WithdrawRequest
from limiter.db import idle_spells, settlement
from limiter.domain.command import Command, CommandState
from limiter.effects.closing import SpellClosing


async def settle(engine: AsyncEngine, request: SettleRequest, now: datetime) -> Answer:
    """End a model's unfinished commands as a person found that they went."""
    state, why = CommandState(request.outcome), f"by hand: {request.signature}"
    async with engine.begin() as connection:
        settled = await settlement.settle_by_hand(connection, request.model, state, now, why)
    if not settled:
        return Answer("failed", f"there is no unfinished command for a model named {request.model!r}")
    for command in settled:
        _log_settled(command, request)
    return Answer("completed", "\n".join(f"{_of(command)}: {state}" for command in settled))


async def withdraw(engine: AsyncEngine, closing: SpellClosing, request: WithdrawRequest, now: datetime) -> Answer:
    """Close a user's open spells of a model."""
    async with engine.begin() as connection:
        spells = await idle_spells.open_spells_of(connection, request.model)
        theirs = [one for one in spells if one.user.id == request.user_id]
        why = f"by hand: {request.signature}"
        ends = [(one.model_id, await closing.withdraw_by_hand(connection, one, now, why)) for one in theirs]
    closed = [f"model {id}: {how}" for id, how in ends if how is not None]
    if not closed:
        return Answer("failed", f"user {request.user_id} has no open idle spell of {request.model!r}")
    return Answer("completed", "\n".join(closed))


def _of(command: Command) -> str:
    return f"{command.kind} of model {command.model_id}, planned {moment(command.planned_at)} UTC"


def _log_settled(command: Command, request: SettleRequest) -> None:
    """One line for a command that a person ended, with its saga, so that what he saw can be looked up."""
    ids = {"command_id": str(command.id), "model_id": str(command.model_id), "saga_id": str(command.saga_id)}
    bound = logger.bind(event="settled_by_hand", model=command.model_name, by=request.by, reason=request.reason, **ids)
    bound.warning("{} of {}: {} by hand", command.kind, command.model_name, request.outcome)
