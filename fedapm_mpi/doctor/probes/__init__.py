"""What all ranks do together to see how things are; each probe is a collective call."""
