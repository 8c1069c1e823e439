"""Further models of a client that an evaluation may look at, as records name them."""

CLIENT_COPY = "client_copy"
BEFORE_FINE_TUNING = "before_fine_tuning"
CLIENT_COPY_BEFORE = f"{CLIENT_COPY}_{BEFORE_FINE_TUNING}"

LABELS = {
    CLIENT_COPY: "client copy",
    BEFORE_FINE_TUNING: "before fine-tuning",
    CLIENT_COPY_BEFORE: "client copy before fine-tuning",
}
"""What lines of progress call them."""

VARIANTS = {
    CLIENT_COPY: "own copies of the shared block",
    BEFORE_FINE_TUNING: "before fine-tuning",
    CLIENT_COPY_BEFORE: "own copies of the shared block, before fine-tuning",
}
"""Keys of a record that hold their metrics, and what titles call them."""
