"""Whose data is whose: `projects` routes, converts and delivers; `pinned_rules` keeps the rules of what is spooled."""
