"""Maps: the names and layouts of one model become the names and layouts of another."""

from .mapping import Map, Mapped, Move, Report

__all__ = ["Map", "Mapped", "Move", "Report"]
