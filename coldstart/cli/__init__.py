"""The `coldstart` command: plan a stack, rehearse it, read the answers."""
