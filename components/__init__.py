"""Pulumi components: wiring of what the plan decided."""
