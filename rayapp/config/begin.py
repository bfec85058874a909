"""Imported before all else by every script in jobs/: the rest takes seconds to import.

From here on Ctrl-C ends the command in one line; see `interrupt`.
"""

from rayapp.config.interrupt import leave_at_once

leave_at_once()
