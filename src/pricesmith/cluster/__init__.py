"""Work on several machines, as Ray tasks: shards of files to price and of tables to curate. See docs/scale.md."""
