"""A plan as others read it: data for machines and stacks."""

from coldstart.report.summary import shown, stack_outputs, summary

__all__ = ["shown", "stack_outputs", "summary"]
