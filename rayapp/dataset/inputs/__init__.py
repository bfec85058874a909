"""What a job is given: images listed where they are few, in shards where they are many."""
