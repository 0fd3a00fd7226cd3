"""MEC: multi-expert cascade for detection."""
