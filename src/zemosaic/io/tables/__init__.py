"""Tables that a run reads or writes."""
