"""What jobs do: commands, events, audit, reminders, closing spells, reading a snapshot."""
