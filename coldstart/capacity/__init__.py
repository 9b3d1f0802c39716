"""Arithmetic of load and money: speed, queues, sizes, warm capacity, drain, break-even.

Pure functions over catalog entries and numbers; nothing here knows a stack file or a plan.
"""
