"""Every engine that shards, with a rule of every need: what comes out, and the table of it."""
