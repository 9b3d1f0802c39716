-- The tables of the world file; see world.py.
CREATE TABLE IF NOT EXISTS objects (
    provider TEXT NOT NULL,
    type TEXT NOT NULL,
    id TEXT NOT NULL,
    urn TEXT NOT NULL,
    identity TEXT NOT NULL,
    scope TEXT NOT NULL,
    properties TEXT NOT NULL,
    PRIMARY KEY (provider, type, scope, id)
);
CREATE UNIQUE INDEX IF NOT EXISTS one_object_per_identity
    ON objects (provider, type, scope, identity);
CREATE TABLE IF NOT EXISTS history (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    action TEXT NOT NULL,
    provider TEXT NOT NULL,
    type TEXT NOT NULL,
    id TEXT NOT NULL,
    urn TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
