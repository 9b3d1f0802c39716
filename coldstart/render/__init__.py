"""Texts that nodes read, rendered from decisions; nothing is decided here."""

from coldstart.render.node import render_user_data

__all__ = ["render_user_data"]
