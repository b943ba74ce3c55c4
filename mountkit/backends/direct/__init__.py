"""Nothing is mounted: a training saves into the directory that is the store (``file://``)."""
