"""Stand-in resource providers: the real Pulumi engine runs the whole program with no cloud account.

The engine starts `python -m offline.provider <package>` like any provider plugin. What the
providers "make" is kept in one sqlite file, the world (`offline.world`), named by the environment
variable `COLDSTART_WORLD`. This package imports the Pulumi SDK and never the program under test.
"""
