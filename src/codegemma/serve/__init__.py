"""From a cursor to what the editor shows: sessions, context, the doors of every protocol. Handed a `Generator`."""
