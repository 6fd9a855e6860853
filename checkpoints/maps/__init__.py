"""Names and layouts of one model as those of another."""

from .mapping import Map, Mapped, Move, Report

__all__ = ["Map", "Mapped", "Move", "Report"]
